"""Try every order of the steps of three writers and a reader of the log, in a model of sequence, locks and snapshots.

Other tests run the real store in processes. This one checks the design: no order of the steps skips an event, and once
any step is weakened, some order does.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import NamedTuple

import pytest

# The atomic steps of a transaction. `floor` reads the sequence, and `lock` takes the shared lock on the number that was
# read. A transaction that has its floor skips both. A commit shows its events before it releases its locks.
COMMIT = ("floor", "lock", "draw", "show", "unlock")
ROLLBACK = ("floor", "lock", "draw", "unlock")
SAVEPOINT = ("floor", "lock", "draw", "back", "floor", "lock", "draw", "show", "unlock")
PROGRAMS = (COMMIT, ROLLBACK, SAVEPOINT)

POLL = ("end", "least", "select")
POLLS = 2

Program = tuple[str, ...]


class Writer(NamedTuple):
    rest: Program
    """Return the remaining steps."""
    read: int = 0
    has_floor: bool = False
    locked: int | None = None
    drawn: int = 0
    """Return the position that the writer has drawn and may still commit, or 0."""


class Reader(NamedTuple):
    rest: Program = POLL * POLLS
    cursor: int = 0
    end: int = 0
    least: int | None = None
    snapshot: frozenset[int] = frozenset()


class State(NamedTuple):
    writers: tuple[Writer, ...]
    reader: Reader
    last: int = 0
    visible: frozenset[int] = frozenset()


def weaken(program: Program, weakness: str) -> Program:
    if weakness == "writers take no lock":
        return tuple(step for step in program if step not in ("floor", "lock"))
    if weakness == "the lock comes after the position":
        return _swap(program, ("floor", "lock", "draw"), ("draw", "floor", "lock"))
    if weakness == "locks are released before the commit shows":
        return _swap(program, ("show", "unlock"), ("unlock", "show"))
    return program


def _swap(program: Program, old: Program, new: Program) -> Program:
    text = " ".join(program).replace(" ".join(old), " ".join(new))
    return tuple(text.split())


def move_writer(state: State, index: int, weakness: str) -> State:
    writer = state.writers[index]
    step, rest = writer.rest[0], writer.rest[1:]
    last, visible = state.last, state.visible
    after = writer._replace(rest=rest)
    if step == "floor" and not writer.has_floor:
        after = after._replace(read=last + 1 if weakness == "the floor is one too high" else last)
    elif step == "lock" and not writer.has_floor:
        after = after._replace(locked=writer.read, has_floor=True)
    elif step == "draw":
        last += 1
        after = after._replace(drawn=last)
    elif step == "back":
        keeps = weakness == "a rollback to a savepoint keeps the setting"
        after = after._replace(drawn=0, locked=None, has_floor=keeps)
    elif step == "show":
        visible |= {writer.drawn}
    elif step == "unlock":
        after = after._replace(locked=None)
    if not rest:
        after = Writer(())
    writers = (*state.writers[:index], after, *state.writers[index + 1 :])
    return state._replace(writers=tuple(sorted(writers, key=repr)), last=last, visible=visible)


def move_reader(state: State, weakness: str) -> State | None:
    """Return the state after the reader's next step, or None if it skipped an event that is or will be committed."""
    reader = state.reader
    step = reader.rest[0]
    after = reader._replace(rest=reader.rest[1:])
    if step == "end":
        after = after._replace(end=state.last, snapshot=state.visible)
    elif step == "least":
        after = after._replace(
            least=min((each.locked for each in state.writers if each.locked is not None), default=None)
        )
    else:
        end = reader.end
        if reader.least is not None and weakness != "the reader ignores the locks":
            end = min(end, reader.least)
        seen = reader.snapshot if weakness == "the reader keeps an older snapshot" else state.visible
        to_come = {each.drawn for each in state.writers if "show" in each.rest and "back" not in each.rest}
        if any(reader.cursor < position <= end for position in (state.visible | to_come) - seen):
            return None
        after = Reader(after.rest, cursor=max(end, reader.cursor))
    return state._replace(reader=after)


def successors(state: State, weakness: str) -> Iterator[State | None]:
    for index, writer in enumerate(state.writers):
        if writer.rest:
            yield move_writer(state, index, weakness)
    if state.reader.rest:
        yield move_reader(state, weakness)


def skips_an_event(programs: tuple[Program, ...], weakness: str = "") -> bool:
    poll = ("least", "end", "select") if weakness == "the reader looks at the locks first" else POLL
    start = State(tuple(Writer(weaken(program, weakness)) for program in programs), Reader(poll * POLLS))
    seen, todo = {start}, [start]
    while todo:
        for following in successors(todo.pop(), weakness):
            if following is None:
                return True
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return False


# Two savepoints among three writers take a minute, and find no more than two savepoints among two writers.
THREE: list[tuple[Program, ...]] = [
    each for each in combinations_with_replacement(PROGRAMS, 3) if each.count(SAVEPOINT) < 2
]
TWO: list[tuple[Program, ...]] = list(combinations_with_replacement(PROGRAMS, 2))
NAMES = {COMMIT: "commit", ROLLBACK: "rollback", SAVEPOINT: "savepoint"}


class TestLogModel:
    @pytest.mark.parametrize("programs", THREE + TWO, ids=lambda programs: "-".join(NAMES[each] for each in programs))
    def test_no_order_of_steps_skips_an_event(self, programs: tuple[Program, ...]) -> None:
        assert not skips_an_event(programs)

    @pytest.mark.parametrize(
        "weakness",
        [
            "writers take no lock",
            "the lock comes after the position",
            "the floor is one too high",
            "locks are released before the commit shows",
            "a rollback to a savepoint keeps the setting",
            "the reader ignores the locks",
            "the reader looks at the locks first",
            "the reader keeps an older snapshot",
        ],
    )
    def test_some_order_skips_an_event_once_a_step_is_weakened(self, weakness: str) -> None:
        assert any(skips_an_event(programs, weakness) for programs in TWO)
