"""Flag over environment over file over default, and errors that name their source."""

from pathlib import Path

import pytest

from artesian.config import EngineConfig, ServerConfig, Settings, SettingsError
from artesian.config.settings import MODELS, settings_of, unknown_variables


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text("model: from-file\nmax-num-seqs: 3\nmax_model_len: 4K\nport: 9\n")
    return path


def test_each_source_beats_the_next(file: Path) -> None:
    config = Settings(
        flags={"model": "from-flag", "max_num_seqs": None},
        environ={"ARTESIAN_MODEL": "from-env", "ARTESIAN_MAX_NUM_SEQS": "5"},
        file=file,
    ).load(EngineConfig)
    assert (config.model, config.max_num_seqs, config.max_model_len) == ("from-flag", 5, 4096)
    assert config.block_size == EngineConfig(model="m").block_size


def test_environment_names_the_file(file: Path) -> None:
    settings = Settings(environ={"ARTESIAN_CONFIG": str(file)})
    assert settings.load(EngineConfig).model == "from-file"
    assert settings.load(ServerConfig).port == 9


def test_empty_variables_count_as_unset() -> None:
    assert Settings(environ={"ARTESIAN_PORT": ""}).load(ServerConfig).port == 8000


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ({"port": "x"}, {}, r"--port: 'x' should be a valid integer"),
        ({}, {"ARTESIAN_PORT": "70000"}, r"ARTESIAN_PORT: '70000' should be less than"),
        ({"max_body_bytes": "1Q"}, {}, r"--max-body-bytes: '1Q' not a size"),
    ],
)
def test_errors_name_source_and_value(
    flags: dict[str, object], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        Settings(flags=flags, environ=environ).load(ServerConfig)
    assert caught.value.hint


def test_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("port: high\n")
    with pytest.raises(SettingsError, match=rf"port in {path}: 'high'"):
        Settings(file=path, environ={}).load(ServerConfig)


def test_a_missing_model_says_how_to_give_one() -> None:
    with pytest.raises(SettingsError, match="no model is given") as caught:
        Settings(environ={}).load(EngineConfig)
    assert "ARTESIAN_MODEL" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("max_modle_len: 3", "unknown setting: max_modle_len", "did you mean max_model_len?"),
        ("- 1", "holds a list", "one setting a line"),
        ("a: [", "not valid YAML", ""),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str, hint: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=message) as caught:
        Settings(file=path, environ={}).load(ServerConfig)
    assert hint in caught.value.hint


def test_absent_file() -> None:
    with pytest.raises(SettingsError, match="cannot read the config file /no/where"):
        Settings(file=Path("/no/where"), environ={}).load(ServerConfig)


def test_names_are_unique_over_all_models() -> None:
    names = [setting.name for model in MODELS for setting in settings_of(model)]
    assert len(names) == len(set(names)), "flags and variables of two models would collide"
    assert all(s.info.description for model in MODELS for s in settings_of(model))


def test_unknown_variables_are_found() -> None:
    environ = {"ARTESIAN_PORT": "1", "ARTESIAN_PROT": "1", "ARTESIAN_CONFIG": "x", "PATH": "/"}
    assert unknown_variables(environ) == ["ARTESIAN_PROT"]


def test_the_example_file_is_valid() -> None:
    settings = Settings(file=Path(__file__).parents[2] / "examples" / "server.yaml", environ={})
    config = settings.load(EngineConfig)
    assert (config.model, config.max_model_len) == ("smollm2", 8192)
    assert settings.load(ServerConfig).log_level == "warning"
