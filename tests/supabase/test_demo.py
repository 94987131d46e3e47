"""The demo over a Supabase project: one setting changed, and all of it comes true."""

import re
import subprocess
import sys

from tests.cli.conftest import environment


def test_the_demo_comes_true_over_supabase_and_its_lines_work_as_printed(rig, tmp_path) -> None:
    rig.empty()
    command = [sys.executable, "-m", "x402jobs", "demo", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(
        command, env=environment(**rig.environment), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Serving until" not in said and (line := process.stdout.readline()):
            said += line
        printed = re.findall(r"   (KEY=\$\(.*)\n   (curl .*)\n", said)
        ran = [
            subprocess.run(
                ["sh", "-c", f"{key}\n{curl}"],
                env=environment(**rig.environment),
                capture_output=True,
                text=True,
            ).stdout
            for key, curl in printed
        ]
        process.terminate()

    assert f"store     {rig.url}" in said and "8  See its plan go on" in said
    assert [each.count('"type":"done"') for each in ran] == [1], (printed, ran)
    states = [row["state"] for row in rig.sql("select state from x402_executions")]
    assert states == ["completed"] * 3  # the paid call, the task, and the line
