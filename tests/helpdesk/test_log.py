import gzip
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from testproject.helpdesk.log import Log, MalformedRow, UnreadableLog, read_log
from tests.helpdesk.logs import HEADER, OTHER_VALUES, column, generated_rows, row, write_log

GOOD = row("Case 1", "Wait")


def steps(log: Log) -> list[tuple[str, str]]:
    return [(case, step.step) for case, taken in log.cases.items() for step in taken]


class TestReading:
    def test_every_row_is_a_step_of_its_case(self, real_log: Path) -> None:
        log = read_log(real_log)
        assert not log.malformed
        expected = Counter(zip(column(real_log, "case:concept:name"), column(real_log, "concept:name"), strict=True))
        assert Counter(steps(log)) == expected

    def test_values_keep_their_columns(self, tmp_path: Path) -> None:
        values = "Case 7,Wait,Ada,2012-10-09T14:50:17+02:00,high,ACME,boat,sales,low,gold,call,hulls,crew 4"
        (step,) = read_log(write_log(tmp_path / "log.csv", [values])).cases["Case 7"]
        assert (step.step, step.resource, step.seriousness, step.customer) == ("Wait", "Ada", "high", "ACME")
        assert (step.product, step.responsible_section, step.seriousness_2) == ("boat", "sales", "low")
        assert (step.service_level, step.service_type) == ("gold", "call")
        assert (step.support_section, step.workgroup) == ("hulls", "crew 4")
        assert step.at == datetime(2012, 10, 9, 12, 50, 17, tzinfo=UTC)

    def test_gzip_file_is_read_like_a_plain_one(self, tmp_path: Path) -> None:
        rows = generated_rows(20)
        assert read_log(write_log(tmp_path / "log.csv", rows)) == read_log(write_log(tmp_path / "log.gz", rows))

    def test_line_ends_blank_lines_and_byte_order_mark_are_ignored(self, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        path.write_text(f"\ufeff{HEADER}\n\n{GOOD}\n\r\n{GOOD}", encoding="utf-8")
        log = read_log(path)
        assert steps(log) == [("Case 1", "Wait")] * 2
        assert not log.malformed

    def test_rows_of_a_case_may_be_scattered(self, tmp_path: Path) -> None:
        rows = [row("Case 1", "Wait"), row("Case 2", "Wait"), row("Case 1", "Closed")]
        log = read_log(write_log(tmp_path / "log.csv", rows))
        assert steps(log) == [("Case 1", "Wait"), ("Case 1", "Closed"), ("Case 2", "Wait")]


class TestMalformedRows:
    @pytest.mark.parametrize(
        ("malformed", "reason"),
        [
            ("Case 1,Wait", "2 columns instead of 13"),
            (f"{GOOD},more", "14 columns instead of 13"),
            (row(case=""), "case:concept:name is empty"),
            (row(step="  "), "concept:name is empty"),
            (row(case="x" * 256), "case:concept:name has 256 characters, more than 255"),
            (row(step="x" * 256), "concept:name has 256 characters, more than 255"),
            (row(at="yesterday"), "time:timestamp is not an ISO 8601 time: 'yesterday'"),
            (row(at=""), "time:timestamp is not an ISO 8601 time: ''"),
            (
                row(at="2012-02-30T00:00:00+00:00"),
                "time:timestamp is not an ISO 8601 time: '2012-02-30T00:00:00+00:00'",
            ),
            (
                row(at="0001-01-01T00:00:00+01:00"),
                "time:timestamp is not an ISO 8601 time: '0001-01-01T00:00:00+01:00'",
            ),
            (row(at="2012-10-09T14:50:17"), "time:timestamp has no time zone: '2012-10-09T14:50:17'"),
            (row(case="Fall").encode().replace(b"Fall", b"F\xe4ll"), r"case:concept:name is not UTF-8: b'\xe4'"),
            (row(step="\x00"), "concept:name holds a null character"),
            (f'Case 1,"Wa"it,Value 1,2012-10-09T14:50:17Z{OTHER_VALUES}', "',' expected after '\"'"),
        ],
    )
    def test_malformed_row_is_reported_with_its_line(self, malformed: str | bytes, reason: str, tmp_path: Path) -> None:
        log = read_log(write_log(tmp_path / "log.csv", [GOOD, malformed, GOOD]))
        assert log.malformed == [MalformedRow(3, 3, reason)]
        assert steps(log) == [("Case 1", "Wait")] * 2

    def test_line_numbers_count_multi_line_values(self, tmp_path: Path) -> None:
        log = read_log(write_log(tmp_path / "log.csv", [row(step='"two\nlines"'), row(case=""), row(step='"\n"')]))
        assert [str(malformed) for malformed in log.malformed] == [
            "line 4: case:concept:name is empty",
            "line 5-6: concept:name is empty",
        ]

    def test_unclosed_quote_reports_its_lines(self, tmp_path: Path) -> None:
        log = read_log(write_log(tmp_path / "log.csv", [GOOD, row(step='"Wait'), GOOD, GOOD]))
        assert [str(malformed) for malformed in log.malformed] == ["line 3-5: unexpected end of data"]
        assert steps(log) == [("Case 1", "Wait")]


class TestUnreadableFiles:
    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            (GOOD, "missing columns: case:concept:name"),
            (HEADER.replace("time:timestamp", "time"), "missing columns: time:timestamp"),
            (HEADER.replace("concept:name,org:resource", "org:resource,concept:name"), "in this order"),
            (f"{HEADER},more", "in this order"),
            ('"case', "unexpected end of data"),
        ],
    )
    def test_a_file_with_a_wrong_header_is_refused(self, header: str, reason: str, tmp_path: Path) -> None:
        with pytest.raises(UnreadableLog, match=f"^line 1: .*{reason}"):
            read_log(
                write_log(tmp_path / "log.csv", [GOOD] if reason != "unexpected end of data" else [], header=header)
            )

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").touch()
        with pytest.raises(UnreadableLog, match=r"^line 1: .*missing columns: "):
            read_log(tmp_path / "log.csv")

    @pytest.mark.parametrize("damage", [slice(0, -20), slice(20, None)], ids=["its end", "its start"])
    def test_a_truncated_gzip_file_is_refused(self, damage: slice, tmp_path: Path) -> None:
        whole = gzip.compress("\r\n".join([HEADER, *generated_rows(50)]).encode())
        start = whole[:10] if damage.start else b""
        (tmp_path / "log.csv.gz").write_bytes(start + whole[damage])
        with pytest.raises(UnreadableLog, match="the compressed file is damaged"):
            read_log(tmp_path / "log.csv.gz")
