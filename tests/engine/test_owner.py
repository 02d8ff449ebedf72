"""What proves that a process is dead."""

from pathlib import Path

from halfrate.engine.owner import Owner


def test_where_all_share_a_folder_a_lock_that_is_gone_proves_it(tmp_path: Path) -> None:
    with Owner(tmp_path) as one, Owner(tmp_path) as other:
        assert not one.proven_dead(other.name)
        assert not one.proven_dead(one.name)
        name = other.name
    with Owner(tmp_path) as one:
        assert one.proven_dead(name)


def test_where_folders_are_not_shared_a_lock_that_is_not_here_proves_nothing(tmp_path: Path) -> None:
    """Two machines may bear one name, and processes on them one number."""
    with Owner(tmp_path / "one", alone=False) as one, Owner(tmp_path / "other", alone=False) as other:
        assert not one.proven_dead(other.name)
        # What was killed in this folder has left its file, and nobody holds it.
        dead = other.name.replace(other.name[-8:], "0" * 8)
        (tmp_path / "one" / f"{dead}.lock").touch()
        for _ in range(2):
            assert one.proven_dead(dead)
