"""Program that runs the `vbench` package on one video; it is executed by the Python of another environment.

It imports nothing of World-R1, so that the environment needs only vbench. Arguments: the video, its prompt, the torch
device, an empty folder for vbench's files, and the dimensions. It writes `scores.json` into the folder: dimension ->
vbench's figure. Exit code 3 means that vbench cannot be imported.
"""

import importlib
import json
import sys
from pathlib import Path

NOT_INSTALLED = 3


def main() -> int:
    """Measure the video."""
    video, prompt, device, folder, *dimensions = sys.argv[1:]
    try:
        vbench = importlib.import_module("vbench")
    except ImportError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return NOT_INSTALLED
    benchmark = vbench.VBench(device, str(Path(str(vbench.__file__)).parent / "VBench_full_info.json"), folder)
    benchmark.evaluate(
        videos_path=video,
        name="video",
        prompt_list=[prompt],
        dimension_list=dimensions,
        mode="custom_input",
    )
    results = json.loads((Path(folder) / "video_eval_results.json").read_text(encoding="utf-8"))
    scores = {dimension: float(results[dimension][0]) for dimension in dimensions}
    (Path(folder) / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
