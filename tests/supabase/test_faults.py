"""The database goes and comes back while the shop sells: nobody is charged for nothing."""

from pathlib import Path

import pytest

from tests.supabase.outages import KINDS, outages
from tests.supabase.rig import Rig

pytestmark = pytest.mark.wire


def test_an_outage_of_each_kind_costs_nobody_anything(rig: Rig, tmp_path: Path) -> None:
    report = outages(rig.postgres, tmp_path, len(KINDS), patience=60)  # other tests run beside it

    assert report.violations == []
    assert report.rows["completed"] >= len(KINDS), "sold again after each"
    assert report.transfers == report.rows["completed"] + report.rows["refund_due"] > 0
