"""Iteration orders: which iterations are checked, that nothing else changes, and what reaches the tape."""

from __future__ import annotations

import builtins
import enum
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rectest.divergence.inside import orders
from rectest.divergence.inside.session import Config, Session
from rectest.divergence.rewriting import CHECKER, rewrite_orders, rewrite_source
from rectest.divergence.tapes import load_run


def rewritten(source: str) -> str:
    """The rewritten text with a short name for the checker and without the texts of expressions."""
    import re

    text = rewrite_source(textwrap.dedent(source).encode()).decode()
    return re.sub(r", '[^']*'\)", ")", text.replace(CHECKER, "C"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A recording that locates orders."""
    session = Session(Config(tape=str(tmp_path), locate_orders=True), process="main", header={})
    session.start()
    orders.install(session)
    yield session
    session.close("exit")
    delattr(builtins, CHECKER)


class TestRewriting:
    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("for a in s: pass", "for a in C(s): pass"),
            ("x = [f(a) for a in s if a]", "x = [f(a) for a in C(s) if a]"),
            ("x = {a: i for i, a in enumerate(set(b))}", "x = {a: i for i, a in enumerate(C(set(b)))}"),
            ("x = list(s | t), tuple(s)", "x = list(C(s | t)), tuple(C(s))"),
            ("x = zip(s, t)", "x = zip(C(s), C(t))"),
            ("f(*s); a, b = s", "f(*C(s)); a, b = C(s)"),
            ("a = s.pop(); b = l.pop(0)", "a = C(s).pop(); b = l.pop(0)"),
            ("x = ','.join(s) + ','.join(sorted(s))", "x = ','.join(C(s)) + ','.join(sorted(s))"),
            ("x = sorted(s, key=len)", "x = sorted(C(s), key=len)"),
            ("x = dict.fromkeys(s)", "x = dict.fromkeys(C(s))"),
            ("é = [a for a in s]", "é = [a for a in C(s)]"),
        ],
    )
    def test_what_is_checked(self, source: str, expected: str) -> None:
        assert expected == rewritten(source)

    @pytest.mark.parametrize(
        "source",
        [
            "x = sorted(s), len(s), min(s), 'a' in s",
            "x = sorted(f(a) for a in s)",
            "x = {a for a in s}",
            "for a in (1, 2): pass",
            "x = f'{list(s)}'",
            "import torch\n@torch.jit.script\ndef f(x):\n    return [a for a in x]\n",
            "x = d.pop('key')",
        ],
    )
    def test_what_is_left_alone(self, source: str) -> None:
        assert source == rewritten(source)

    def test_lines_stay_where_they_are(self) -> None:
        source = 'for a in (\n    s |\n    t\n):\r\n    raise ValueError("""\n""")\n'

        assert source.count("\n") == rewritten(source).count("\n")

    def test_only_what_parses_is_touched(self, tmp_path: Path) -> None:
        (tmp_path / "good.py").write_text("for a in s: pass\n")
        (tmp_path / "bad.py").write_text("for a in s pass\n")
        (tmp_path / "latin.py").write_bytes(b"# \xe9\nfor a in s: pass\n")
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / "good.py").write_text("for a in s: pass\n")

        assert rewrite_orders(tmp_path) == 1
        assert (tmp_path / "bad.py").read_text() == "for a in s pass\n"
        assert rewrite_orders(tmp_path) == 0

    @settings(max_examples=50, deadline=None)
    @given(
        st.sets(st.text(max_size=3), max_size=5),
        st.sampled_from(["list(s)", "[*s]", "{a: 1 for a in s}", "','.join(s)"]),
    )
    def test_values_stay_the_same(self, s: set[str], source: str) -> None:
        checked = rewrite_source(source.encode())

        assert eval(source, {"s": s}) == eval(checked, {"s": s, CHECKER: lambda value, _: value})


class TestChecker:
    def check(self, session: Session, *values: Any) -> list[Any]:
        """Events after checking these values one after the other."""
        for value in values:
            assert getattr(builtins, CHECKER)(value, "names") is value
        session.event("hash", "something")
        session.close("exit")
        return list(load_run(session.config.tape).tapes["main"].of("order"))

    def test_a_set_of_text_is_noted(self, session: Session) -> None:
        (event,) = self.check(session, {"a", "b"})

        assert ("names", 1) == (event.name, event.info["count"])
        assert event.site.endswith(":check")

    def test_repetitions_are_noted_at_powers_of_two(self, session: Session) -> None:
        found = self.check(session, *[{"a", "b"}] * 9)

        assert [1, 2, 4, 8] == [event.info["count"] for event in found]

    @pytest.mark.parametrize("value", [{1, 2.5}, {(1, 2), (3, 4)}, {"a"}, set(), ["a", "b"], {"a": 1, "b": 2}, None])
    def test_what_cannot_move_is_not_noted(self, session: Session, value: Any) -> None:
        assert [] == self.check(session, value)

    def test_enumerations_and_tuples_with_text_move(self, session: Session) -> None:
        colour = enum.Enum("colour", ["red", "blue"])

        assert 1 == len(self.check(session, set(colour)))

    def test_addresses_do_not_reach_the_digest(self) -> None:
        class Thing:
            pass

        assert orders._spell(Thing()) == orders._spell(Thing())
        assert orders._spell(frozenset({"b", "a"})) == "('a', 'b')"

    def test_objects_that_are_shown_by_their_address_are_told_apart_by_their_fields(self) -> None:
        class Row:
            def __init__(self, user: str, next_row: object = None) -> None:
                self.user, self.next_row = user, next_row

        assert orders._spell(Row("b")) != orders._spell(Row("a"))
        assert orders._spell(Row("a", Row("b"))) == orders._spell(Row("a", Row("c")))
