from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from es_django import Aggregate, Event, Repository, StreamId, applies
from es_django.core.aggregates import categories
from es_django.errors import DefinitionError, InvalidStreamId, PayloadError
from tests.domain import Deposited, Ledger, LedgerOpened, Withdrawn


class Ignored(Event):
    class Meta:
        name = "tests.ignored"


class Rated(Aggregate):
    rate: Decimal

    @applies
    def _deposited(self, event: Deposited) -> None:
        self.rate = event.amount
        if event.amount < 0:
            raise ValueError("refused after it was taken")


class Echoing(Aggregate):
    @applies
    def _deposited(self, event: Deposited) -> None:
        self.record(Withdrawn(amount=event.amount))

    @applies
    def _withdrawn(self, event: Withdrawn) -> None: ...


class Counting(Aggregate):
    copies: "Copied | None" = None

    @applies
    def _deposited(self, event: Deposited) -> None:
        self.copies = self.copies or Copied()


class Copied:
    times = 0

    def __deepcopy__(self, memo: object) -> "Copied":
        Copied.times += 1
        return self


class Noted:
    noted: list[Decimal] = []  # each aggregate gets a copy

    @applies
    def _deposited(self, event: Deposited) -> None:
        self.noted.append(event.amount)


class NotedFirst(Noted, Aggregate): ...


class NotedLast(Aggregate, Noted): ...


@pytest.fixture
def _no_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categories, "_claims", {})


def _two_for_one_event() -> None:
    class Twice(Aggregate):
        @applies
        def one(self, event: Deposited) -> None: ...

        @applies
        def two(self, event: Deposited) -> None: ...


def _no_annotation() -> None:
    class Untyped(Aggregate):
        @applies
        def one(self, event: Any) -> None: ...


def _any_event() -> None:
    class Curious(Aggregate):
        @applies
        def one(self, event: Event) -> None: ...


def _event_given_to_the_decorator() -> None:
    class Reported(Aggregate):
        @applies(Deposited)  # type: ignore[call-arg, arg-type, type-var]
        def one(self, event: Deposited) -> None: ...


def _too_many_parameters() -> None:
    class Greedy(Aggregate):
        @applies  # type: ignore[type-var]
        def one(self, event: Deposited, more: int) -> None: ...


def _taken_name() -> None:
    class Clash(Aggregate):
        version: int = 0


def _taken_private_name() -> None:
    class Draft(Aggregate):
        @applies
        def _mark_saved(self, event: Deposited) -> None: ...  # type: ignore[override]


def _taken_name_in_a_mixin() -> None:
    class Mixin:
        def _check_saves(self) -> None: ...

    class Mixed(Mixin, Aggregate): ...


def _option_outside_meta() -> None:
    class Outside(Aggregate):
        category = "outside"


def _unknown_option() -> None:
    class Unknown(Aggregate):
        class Meta:
            catgory = "x"


def _shared_list() -> None:
    class Shared(Aggregate):
        items = []  # type: ignore[var-annotated]  # the mistake


def _shared_queue() -> None:
    class Mixin:
        queue = deque()  # type: ignore[var-annotated]  # the mistake

    class Queueing(Mixin, Aggregate): ...


def _asynchronous() -> None:
    class Waiting(Aggregate):
        @applies  # type: ignore[type-var]
        async def one(self, event: Deposited) -> None: ...


def _override_without_the_decorator() -> None:
    class Forgetful(Ledger):
        def _moved(self, event: Deposited | Withdrawn) -> None: ...


def _override_that_a_mixin_brings() -> None:
    class Mixin:
        def _moved(self, event: Deposited | Withdrawn) -> None: ...

    class Mixed(Mixin, Ledger): ...


def _override_without_an_annotation() -> None:
    class Untold(Ledger):
        @applies
        def _moved(self, event) -> None: ...  # type: ignore[no-untyped-def]


class Tagged(Event):
    tags: list[str]


class Tags(Aggregate):
    tags: list[str] = []

    @applies
    def _tagged(self, event: Tagged) -> None:
        if event.tags == ["refused"]:
            raise ValueError("no such tag")
        if self.tags:
            self.tags.append(event.tags[0])
        else:
            self.tags = event.tags


class TestRecord:
    def test_a_recorded_event_is_applied_and_pending(self) -> None:
        ledger = Ledger.open("l-1")
        ledger.deposit(5)
        assert (ledger.owner, ledger.balance) == ("Ada", Decimal(5))
        assert ledger.pending_events == [LedgerOpened(owner="Ada"), Deposited(amount=Decimal(5))]
        assert (ledger.version, ledger.committed_version) == (2, 0)

    def test_an_error_of_an_applies_method_changes_nothing(self) -> None:
        ledger = Ledger.open("l-1")
        ledger.annotate("kept")
        with pytest.raises(ValueError, match="refused after"):
            ledger.annotate("refused")
        assert ledger.notes == ["kept"]
        assert ledger.version == len(ledger.pending_events) == 2

    def test_an_error_after_many_events_restores_the_state(self) -> None:
        ledger = Ledger.open("l-1")
        for number in range(50):
            ledger.annotate([number])
        for _ in range(2):
            with pytest.raises(ValueError, match="refused after"):
                ledger.annotate("refused")
            assert ledger.notes == [[number] for number in range(50)]
        ledger.annotate("more")
        assert (ledger.notes[-1], ledger.version) == ("more", 52)

    def test_an_error_removes_new_attributes(self) -> None:
        rated = Rated("r-1")
        with pytest.raises(ValueError, match="refused after"):
            rated.record(Deposited(amount=Decimal(-1)))
        assert not hasattr(rated, "rate")

    def test_recording_inside_an_applies_method_is_an_error(self) -> None:
        echoing = Echoing("e-1")
        with pytest.raises(RuntimeError, match="Echoing records Withdrawn inside an @applies method"):
            echoing.record(Deposited(amount=Decimal(1)))
        assert echoing.pending_events == []
        with pytest.raises(RuntimeError, match="Echoing records Withdrawn inside an @applies method"):
            echoing._replay([(1, [Deposited(amount=Decimal(1))])])
        assert echoing.pending_events == []
        echoing.record(Withdrawn(amount=Decimal(1)))
        assert echoing.version == 1

    def test_the_state_is_not_copied_for_each_event(self) -> None:
        counting = Counting("c-1")
        for number in range(1, 100):
            counting.record(Deposited(amount=Decimal(number)))
        assert Copied.times <= 1

    @pytest.mark.parametrize(
        ("amount", "message"),
        [
            ("much", r"tests\.deposited\.amount: invalid decimal string"),
            (None, r"tests\.deposited\.amount: expected decimal, got null"),
            ("5", r"tests\.deposited\.amount: would be read back as a different value"),
        ],
        ids=["much", "None", "5"],
    )
    def test_a_value_of_the_wrong_type_is_rejected(self, amount: Any, message: str) -> None:
        with pytest.raises(PayloadError, match=message):
            Ledger("l-1").record(Deposited(amount=amount))

    def test_a_value_that_json_changes_is_rejected(self) -> None:
        with pytest.raises(PayloadError, match=r"tests\.annotated\.note: would be read back as a different value"):
            Ledger("l-1").annotate({1: "a key that JSON turns into text"})

    def test_a_payload_that_cannot_be_stored_is_rejected(self) -> None:
        ledger = Ledger.open("l-1")
        with pytest.raises(PayloadError, match=r"tests\.annotated\.note: nan is not a JSON number"):
            ledger.annotate(float("nan"))
        assert (ledger.version, ledger.notes) == (1, [])

    def test_an_event_without_an_applies_method_is_rejected(self) -> None:
        ledger = Ledger.open("l-1")
        with pytest.raises(TypeError, match="no @applies method for Ignored"):
            ledger.record(Ignored())
        with pytest.raises(TypeError, match="is not an instance of an Event subclass"):
            ledger.record("deposited")  # type: ignore[arg-type]
        assert ledger.version == 1

    def test_changing_the_state_does_not_change_the_recorded_event(self) -> None:
        tags = Tags("t-1")
        tags.record(Tagged(tags=["a"]))
        tags.record(Tagged(tags=["b"]))
        assert tags.pending_events == [Tagged(tags=["a"]), Tagged(tags=["b"])]
        for _ in range(2):
            with pytest.raises(ValueError, match="no such tag"):
                tags.record(Tagged(tags=["refused"]))
            assert tags.tags == ["a", "b"]
        tags.record(Tagged(tags=["c"]))
        assert tags.pending_events == [Tagged(tags=[tag]) for tag in "abc"]


class TestState:
    def test_each_aggregate_has_its_own_initial_values(self) -> None:
        first, second = Ledger("l-1"), Ledger("l-2")
        first.annotate("mine")
        assert second.notes == []
        assert Ledger("l-3").notes == []

    @pytest.mark.parametrize("noted_class", [NotedFirst, NotedLast])
    def test_a_mixin_can_define_state_and_applies_methods(self, noted_class: Any) -> None:
        first, second = noted_class("n-1"), noted_class("n-2")
        first.record(Deposited(amount=Decimal(3)))
        assert (first.noted, second.noted, Noted.noted) == ([Decimal(3)], [], [])

    def test_a_subclass_inherits_applies_methods(self) -> None:
        class Earning(Ledger):
            interest: int = 0

            @applies
            def _ignored(self, event: Ignored) -> None:
                self.interest += 1

        earning = Earning("e")
        earning.deposit(3)
        earning.record(Ignored())
        assert (earning.balance, earning.interest) == (Decimal(3), 1)

    def test_a_subclass_can_override_applies_methods(self) -> None:
        class Doubling(Ledger):
            @applies
            def _moved(self, event: Deposited | Withdrawn) -> None:
                super()._moved(event)
                super()._moved(event)

        doubling = Doubling("d")
        doubling.deposit(3)
        assert doubling.balance == Decimal(6)


class TestCategory:
    def test_a_blank_key_is_rejected(self) -> None:
        with pytest.raises(InvalidStreamId):
            Ledger(" ")

    def test_the_default_category_is_the_class_name_in_lower_case(self) -> None:
        class Invoice(Aggregate):
            pass

        class Bill(Aggregate):
            class Meta:
                category = "a bill"

        assert (Invoice("i").stream, Bill("i").stream) == (StreamId("invoice", "i"), StreamId("a bill", "i"))

    @pytest.mark.usefixtures("_no_categories")
    def test_a_category_that_two_classes_have_is_an_error_when_it_is_used(self) -> None:
        class First(Aggregate):
            class Meta:
                category = "contested"

        repository = Repository(First)
        First("f-1")

        class Second(Aggregate):
            class Meta:
                category = "contested"

        uses: list[Callable[[], object]] = [
            lambda: First("f-1"),
            lambda: Second("f-1"),
            *(lambda use=use: use("f-1") for use in (repository.get, repository.exists, repository.history)),
            lambda: repository.get_many(["f-1"]),
        ]
        for use in uses:
            with pytest.raises(DefinitionError, match=r"First and .*Second both have the category 'contested'"):
                use()

    @pytest.mark.usefixtures("_no_categories")
    def test_importing_a_module_again_replaces_its_classes(self) -> None:
        for _ in range(2):
            again = type("Again", (Aggregate,), {"__qualname__": "Again"})
        assert again("a-1").stream == StreamId("again", "a-1")


class TestDefinition:
    @pytest.mark.parametrize(
        ("define", "message"),
        [
            (_two_for_one_event, "one and two both take Deposited"),
            (_no_annotation, "annotate the event with its Event class"),
            (_any_event, r"Curious\.one: annotate the event with its Event class"),
            (_event_given_to_the_decorator, r"@applies\(Deposited\): write @applies without an argument"),
            (_too_many_parameters, "must take self and the event"),
            (_taken_name, "every aggregate already has version"),
            (_taken_private_name, "Draft: every aggregate already has _mark_saved"),
            (_taken_name_in_a_mixin, "Mixin: every aggregate already has _check_saves"),
            (_option_outside_meta, "Outside: every aggregate already has category"),
            (_unknown_option, "unknown option catgory"),
            (_shared_list, "all instances would share items"),
            (_shared_queue, "Mixin: all instances would share queue"),
            (_asynchronous, "must be a plain method"),
            (_override_without_the_decorator, r"Forgetful\._moved overrides an @applies method of Ledger"),
            (_override_that_a_mixin_brings, r"Mixed\._moved overrides an @applies method of Ledger"),
            (_override_without_an_annotation, r"Untold\._moved: annotate the event with its Event class"),
        ],
    )
    def test_an_invalid_class_is_rejected_when_it_is_defined(self, define: Any, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            define()
