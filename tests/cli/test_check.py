import json


def spoil(project):
    path = project / "tiny.toml"
    path.write_text(path.read_text().replace("seed = 1", "sead = 1").replace("lr = 1e-3", "lrr = 1e-3"))


def test_a_file_without_mistakes_says_so_and_builds_nothing(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "-M", "train", "test")
    assert (outcome.code, outcome.out) == (0, "tiny.toml: no mistakes found\n")
    assert not (project / "exp").exists()


def test_findings_as_json(audiozen, project):
    spoil(project)
    outcome = audiozen("check", "tiny.toml", "--format", "json")
    assert outcome.code == 2
    found = json.loads(outcome.out)
    assert [(item["line"], item["column"], item["suggestion"]) for item in found] == [(3, 1, "seed"), (30, 1, "lr")]
    assert found[0]["code"].startswith("AZ")
    assert outcome.err == ""


def test_findings_as_annotations(audiozen, project):
    spoil(project)
    lines = audiozen("check", "tiny.toml", "--format", "github").out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("::error ")
    assert "file=tiny.toml" in lines[0]
    assert "line=3" in lines[0]


def test_no_findings_as_json_is_an_empty_array(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "--format", "json")
    assert (outcome.code, json.loads(outcome.out)) == (0, [])
