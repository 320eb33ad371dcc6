"""Which cluster a command works on."""

from collections.abc import Callable

import pytest

from polyglot_platform import cli, engine
from polyglot_platform.cli import COMMANDS, ON_ONE_CLUSTER, Platform, main
from polyglot_platform.cluster import Cluster, ClusterName

MAIN, BARE = ClusterName.MAIN, ClusterName.BARE


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[ClusterName]:
    """The clusters that commands were called for; nothing is done to them."""
    names: list[ClusterName] = []

    def record(platform: Platform) -> None:
        names.append(platform.cluster.name)

    commands: dict[str, Callable[[Platform], None]] = dict.fromkeys(COMMANDS, record)
    monkeypatch.setattr(cli, "COMMANDS", commands)
    return names


@pytest.mark.parametrize("command", sorted(ON_ONE_CLUSTER))
def test_a_command_works_on_the_main_cluster_unless_told_otherwise(command: str, chosen: list[ClusterName]) -> None:
    assert main([command]) == main([command, "--bare"]) == 0
    assert chosen == [MAIN, BARE]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - ON_ONE_CLUSTER))
def test_what_works_on_no_single_cluster_takes_no_choice(command: str, chosen: list[ClusterName]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--bare"])
    assert chosen == []


@pytest.mark.parametrize(("name", "deleted"), [(MAIN, [BARE, MAIN]), (BARE, [BARE])])
def test_the_bare_cluster_goes_with_the_main_one_or_alone(
    name: ClusterName, deleted: list[ClusterName], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[ClusterName] = []
    monkeypatch.setattr(engine, "answers", lambda: True)
    monkeypatch.setattr(cli, "install_tools", lambda _: None)
    monkeypatch.setattr(Cluster, "delete", lambda cluster: gone.append(cluster.name))
    cli.cluster_down(Platform({}, name))
    assert gone == deleted


def test_every_word_for_a_cluster_follows_from_its_name() -> None:
    assert [(name.context, name.container, name.arguments) for name in ClusterName] == [
        ("kind-polyglot", "polyglot-control-plane", ""),
        ("kind-polyglot-bare", "polyglot-bare-control-plane", " BARE=1"),
    ]
