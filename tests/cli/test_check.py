import json


def add_two_typos(project):
    path = project / "tiny.toml"
    path.write_text(path.read_text().replace("seed = 1", "sead = 1").replace("lr = 1e-3", "lrr = 1e-3"))


def test_check_of_a_correct_file_creates_no_run_folder(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "-M", "train", "test")
    assert (outcome.code, outcome.out) == (0, "tiny.toml: no mistakes found\n")
    assert not (project / "exp").exists()


def test_json_format_prints_each_finding_with_position_and_suggestion(audiozen, project):
    add_two_typos(project)
    outcome = audiozen("check", "tiny.toml", "--format", "json")
    assert outcome.code == 2
    found = json.loads(outcome.out)
    assert [(item["line"], item["column"], item["suggestion"]) for item in found] == [(3, 1, "seed"), (30, 1, "lr")]
    assert found[0]["code"].startswith("AZ")
    assert outcome.err == ""


def test_github_format_prints_one_annotation_per_finding(audiozen, project):
    add_two_typos(project)
    lines = audiozen("check", "tiny.toml", "--format", "github").out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("::error ")
    assert "file=tiny.toml" in lines[0]
    assert "line=3" in lines[0]


def test_json_format_prints_an_empty_array_without_findings(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "--format", "json")
    assert (outcome.code, json.loads(outcome.out)) == (0, [])


def test_build_option_runs_one_batch_and_reports_its_cost(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "--build")
    assert outcome.code == 0, outcome.err
    facts = dict(line.split(maxsplit=1) for line in outcome.out.splitlines()[1:])
    assert facts["weights"] == "model 1,120"
    assert facts["batch"] == "noisy [2, 2000], clean [2, 2000], length [2]"
    assert facts["batches"] == "2 an epoch"
    assert facts["loss"].startswith("loss 0.")
    assert facts["memory"].endswith("MB at the peak, of the whole process")
    assert facts["time"].endswith("an epoch")
    assert not (project / "exp").exists()


PRINTING = """
from audiozen_plugins.model.sdnn import SDNN
class Model(SDNN):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        print("a constructor prints")
"""


def test_standard_output_is_one_json_document_also_if_it_builds(audiozen, project):
    (project / "model.py").write_text(PRINTING)
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('path = "sdnn"', 'path = "model.Model"'))
    outcome = audiozen("check", "tiny.toml", "--build", "--format", "json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["findings"] == []
    assert document["build"]["weights"] == "model 1,120"
    assert outcome.err == "a constructor prints\n"
    assert "a constructor prints\n" in audiozen("check", "tiny.toml", "--build").out, "negative control"
    outcome = audiozen("check", "tiny.toml", "--build", "--format", "github")
    assert outcome.out == ""
    assert "weights      model 1,120\n" in outcome.err


def test_component_that_can_not_be_built_is_a_finding_in_each_format(audiozen, project):
    text = PRINTING + "        raise ValueError('no')\n"
    (project / "model.py").write_text(text)
    toml = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(toml.replace('path = "sdnn"', 'path = "model.Model"'))
    outcome = audiozen("check", "tiny.toml", "--build", "--format", "json")
    assert outcome.code == 2
    document = json.loads(outcome.out)
    (finding,) = document["findings"]
    assert (finding["code"], document["build"]) == ("AZ210", {})
    assert finding["message"].endswith("ValueError: no")
    outcome = audiozen("check", "tiny.toml", "--build", "--format", "github")
    assert (outcome.code, outcome.out.count("::error ")) == (2, 1)
    outcome = audiozen("check", "tiny.toml", "--build")
    assert (outcome.code, outcome.out) == (2, "a constructor prints\n")
    assert "ValueError: no" in outcome.err
    assert audiozen("check", "tiny.toml").out == "tiny.toml: no mistakes found\n", "negative control"


def test_file_that_does_not_exist_is_a_finding_too(audiozen, project):
    outcome = audiozen("check", "missing.toml", "--format", "json")
    assert outcome.code == 2
    assert "missing.toml" in json.loads(outcome.out)[0]["message"]


def test_build_option_names_weights_without_a_gradient(audiozen, project):
    (project / "model.py").write_text(
        "import torch\n"
        "from audiozen_plugins.model.sdnn import SDNN\n"
        "class Model(SDNN):\n"
        "    def __init__(self, **kwargs):\n"
        "        super().__init__(**kwargs)\n"
        "        self.forgotten = torch.nn.Parameter(torch.ones(3))\n"
    )
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('path = "sdnn"', 'path = "model.Model"'))
    assert "no gradient  forgotten\n" in audiozen("check", "tiny.toml", "--build").out


def test_build_option_without_a_training_only_builds(audiozen, project):
    outcome = audiozen("check", "tiny.toml", "--build", "-M", "test")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1:] == ["device       cpu", "weights      model 1,120"]


def test_warnings_are_counted_after_no_mistakes(audiozen, project):
    path = project / "tiny.toml"
    text = path.read_text()
    for old, new, end in (
        ("[meta]", '[meta]\nexp_id = "x"', ", 1 warning"),
        ("[meta]", '[meta]\nexp_id = "x"\ndescription = "y"', ", 2 warnings"),
        ("[meta]", '[meta]\nid = "x"', ""),
    ):
        path.write_text(text.replace(old, new))
        outcome = audiozen("check", "tiny.toml")
        assert (outcome.code, outcome.out) == (0, f"tiny.toml: no mistakes found{end}\n")
        assert outcome.err.count("warning[") == end.count("1") + 2 * end.count("2")
