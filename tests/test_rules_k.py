"""Rules K: what is code. One name for a script however it is loaded; what runs counts, not what the disk has."""

import cpgraph as cp


def test_k2_code_made_by_exec_counts_though_it_has_no_source(tmp_path):
    """Where there is no source, the code object counts (told): another constant is another step."""

    def graph(body):
        namespace = {}
        exec(f"def made() -> int:\n    return {body}\n", namespace)
        return cp.Graph(namespace["made"])

    assert graph("1").run(dir=tmp_path).value("made") == 1
    run = graph("2").run(dir=tmp_path)
    assert run.value("made") == 2 and [hint.kind for hint in run.hints] == ["source"]
    assert graph("1").run(dir=tmp_path).counts == {"made": {"cached": 1}}
