"""Tiles: the pieces of a task, each in its place."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from x402jobs.blueprints import reading, replies, services
from x402jobs.blueprints.callers import EVERYBODY, signed_in
from x402jobs.blueprints.replies import iso, say_page
from x402jobs.blueprints.schemas import TileChangeSchema, TileSchema, TilesSchema, load
from x402jobs.domain.coords import Coords
from x402jobs.domain.tile import Tile

bp = Blueprint("tiles", __name__)
bp.after_request(replies.private)

ALL, ONE = "/api/tiles", "/api/tiles/<coords>"


@bp.get(ALL)
def list_tiles() -> Response:
    """The caller's own tiles, or what they may see below one."""
    reader = signed_in(*EVERYBODY).user_id
    asked = load(TilesSchema(), reading.query(request))
    coords = asked.pop("under")
    if coords is None:
        page = services.mapping.page(reader, **asked)
    else:
        page = services.mapping.under(reader, coords, **asked)
    return jsonify(say_page("tiles", page, say))


@bp.post(ALL)
def create_tile() -> Response:
    """Put a new tile under one of the caller's own."""
    owner = signed_in(*EVERYBODY).user_id
    tile = Tile(**load(TileSchema(), replies.read_object()))
    tile = services.mapping.create(owner, tile)
    return replies.created(say(tile), f"{ALL}/{tile.coords}")


@bp.get(ONE)
def show_tile(coords: str) -> Response:
    """One tile, or plan."""
    reader = signed_in(*EVERYBODY).user_id
    return jsonify(say(services.mapping.get(reader, Coords.parse(coords))))


@bp.patch(ONE)
def edit_tile(coords: str) -> Response:
    """Change some of it; the rest stays. Refused where it is not what its editor has read."""
    owner, place = signed_in(*EVERYBODY).user_id, Coords.parse(coords)
    changes = load(TileChangeSchema(), replies.read_object(), partial=True)
    read_at = changes.pop("read_at", None)
    return jsonify(say(services.mapping.edit(owner, place, changes, read_at)))


@bp.delete(ONE)
def delete_tile(coords: str) -> Response:
    """Delete a tile and all below it, or a plan."""
    services.mapping.delete(signed_in(*EVERYBODY).user_id, Coords.parse(coords))
    return Response(status=204)


def say(tile: Tile) -> dict[str, Any]:
    """A tile as its reader sees it; a plan's content is its steps, written out."""
    plan = tile.hexplan
    return {
        "coords": str(tile.coords),
        "title": tile.title,
        "content": tile.content if plan is None else plan.text,
        "preview": tile.preview,
        "visibility": tile.visibility,
        "createdAt": iso(tile.created_at),
        "updatedAt": iso(tile.updated_at),
    }
