"""Many streams at once through nginx: each whole, each event as soon as it is said."""

from collections import Counter

from benchmarks.load import judge, relayed
from benchmarks.order import Order
from tests.load.crowd import Crowd, digest, unzipped, verdict
from tests.load.site import Report, Site


def streams(shop: Site, number: int, deltas: int, seconds: float, sample: int = 10) -> Report:
    """So many streams of so many deltas over so many seconds; every byte is compared."""
    report = Report(f"{number} streams of {deltas} deltas")
    requests, before = shop.requests(shop.orders(number, deltas, seconds)), shop.transfers()
    with Crowd(shop.port, requests, ramp=number / 50) as crowd:
        recordings = crowd.end()
    verdicts = [verdict(each) for each in recordings]
    endings = Counter(each.ending for each in verdicts)
    report.expect("every stream is whole", set(endings) == {"done"}, dict(endings))
    delays = sorted(delay for each in verdicts for delay in each.delays)
    report.counts = {
        "endings": dict(endings),
        "deltas": len(delays),
        "SHA-256 of the streams' SHA-256": digest(recordings)[:16],
        "delay of a delta, of whatever was busy included": (
            f"p50 {delays[len(delays) // 2]:.0f} ms, p99 {delays[len(delays) * 99 // 100]:.0f} "
            f"ms, max {delays[-1]:.0f} ms"
        ),
        "transfers": shop.transfers() - before,
    }
    report.expect("each is paid once", shop.transfers() == before + number, shop.transfers())
    if sample:
        _unbuffered(shop, report, sample, packed=False)
    if sample and shop.has_gzip:
        _unbuffered(shop, report, sample, packed=True)
    return report


def _unbuffered(shop: Site, report: Report, sample: int, *, packed: bool) -> None:
    """Delta i is there before i+2 is said. An answer's words say when they were due."""
    orders = [Order(f"u{each}", 8, 400_000) for each in range(sample)]
    requests = shop.requests(orders)
    if packed:
        requests = [
            (order, request.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n", 1))
            for order, request in requests
        ]
    with Crowd(shop.port, requests, ramp=0.5) as crowd:
        recordings = crowd.end()
    zipped = [
        b"content-encoding: gzip" in bytes(each.received[:2000]).lower() for each in recordings
    ]
    report.expect("compressed where it was asked for", set(zipped) == {packed}, zipped)
    late = [
        delay
        for each in recordings
        for delay in judge(unzipped(each), relayed).delays
        if delay * 1000 >= 2 * each.order.interval
    ]
    name = "seen before the next but one was said" + (", compressed" if packed else "")
    report.counts[name] = f"{sample * 8 - len(late)} of {sample * 8}"
    report.expect("nothing is held back", not late, late)
