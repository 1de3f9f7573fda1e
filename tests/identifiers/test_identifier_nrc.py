"""Latin spellings never guess, PERSONAL_ID never keeps a broken NRC, and displayed forms can be read."""

from itertools import product
from pathlib import Path

import pytest

from oracle.identifiers import BadIdentifier, Reading, display
from oracle.identifiers.townships import SPELLINGS, TownshipsError, load_table, read_own

canonicalise = Reading().canonicalise


def get_reason(kind: str, text: str) -> str:
    with pytest.raises(BadIdentifier) as refusal:
        canonicalise(kind, text)
    return refusal.value.reason


@pytest.mark.parametrize(
    "text",
    ["12OUKAMAN123456", "12oukamanaing123456", "12250019N123456", "12OUKAMAC123456", "12-OUKAMA(N)123456"],
)
def test_separators_can_be_missing(text: str) -> None:
    assert canonicalise("NRC", text) == "12-250019-N-123456"
    assert canonicalise("PERSONAL_ID", text) == "12-250019-N-123456"


def test_the_compact_canonical_form_names_townships_that_latin_cannot() -> None:
    assert canonicalise("NRC", "13191A14N000123") == "13-191A14-N-000123"
    assert canonicalise("NRC", "8191914N123456") == "8-191914-N-123456"
    assert canonicalise("NRC", "1151D14E000001") == "1-151D14-E-000001"


@pytest.mark.parametrize(
    "text", ["12/OUKAMA(N)123456", "12\\OUKAMA(N)123456", "၁၂/ဥကမ(နိုင်)၁၂၃၄၅၆", "12-oukama-n-123456"]
)
def test_a_personal_id_with_the_shape_of_an_nrc_becomes_one(text: str) -> None:
    assert canonicalise("PERSONAL_ID", text) == "12-250019-N-123456"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("13-NASANA-N-000123", "ambiguous_township_latin"),
        ("13NASANAN000123", "ambiguous_township_latin"),
        ("12-OKM-N-123456", "unknown_township_latin"),
        ("12-AB-N-123456", "unknown_township_latin"),
        ("12-OUKAMA-F-123456", "bad_type"),
        ("12-OUKAMA--123456", "missing_type"),
        ("12-OUKAMA-N-12345", "bad_number_length"),
        ("12-OUKAMA-N-12345\uff16", "bad_structure"),
        ("15-OUKAMA-N-123456", "bad_state"),
        ("12-220019-N-123456", "bad_township"),
        ("12-090019-N-123456", "bad_township"),
        ("12--N-123456", "bad_structure"),  # the rest of Burmese letters after a hub put them in a header
        ("၁၂ဥကမ၁၂၃၄၅၆", "bad_structure"),
        ("၁၂-ဥကမ-N-၁၂၃456", "mixed_digit_scripts"),
    ],
)
def test_a_broken_nrc_is_never_kept_as_opaque(text: str, expected: str) -> None:
    assert get_reason("PERSONAL_ID", text) == expected
    assert get_reason("NRC", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "MA123456",
        "G12345678",
        "12-34-56-7890",
        "1-ABC-DEF-GH",
        "99ABCDEN123456",
        "12345678N123456",
        "AB-12-CD",
        "123456-78-9",
        "1234567890",
    ],
)
def test_other_documents_are_opaque(text: str) -> None:
    assert canonicalise("PERSONAL_ID", text) == text
    assert get_reason("NRC", text) == "bad_structure"


def test_a_zambian_card_is_refused_for_its_slashes_alone() -> None:
    assert get_reason("PERSONAL_ID", "123456/78/9") == "forbidden_character"


def test_every_burmese_code_is_its_own_key_and_every_displayed_form_leads_back_or_is_refused() -> None:
    seen = set()
    for state, code in sorted(load_table().popular):
        key = canonicalise("NRC", f"{state}/{code}(နိုင်)000001")
        assert key not in seen
        seen.add(key)
        shown = display("NRC", key)
        assert shown.burmese is not None
        assert shown.lossless_latin is not None
        assert canonicalise("NRC", shown.burmese) == key
        for latin in (shown.text, shown.lossless_latin):
            try:
                assert canonicalise("NRC", latin) == key or not is_usable(state, code)
            except BadIdentifier as refusal:
                assert refusal.reason in {"unknown_township_latin", "ambiguous_township_latin"}  # noqa: PT017


def is_usable(state: str, code: str) -> bool:
    return any(code in codes for (where, _), codes in load_table().by_spelling.items() if where == state)


def test_exactly_three_spellings_of_usable_codes_are_ambiguous() -> None:
    ambiguous = {key for key, codes in load_table().by_spelling.items() if len(codes) > 1}
    assert ambiguous == {("13", "NASANA"), ("13", "MAYATA"), ("13", "MAYANA")}


def test_every_spelling_in_the_lists_follows_from_the_letters() -> None:
    for (_, code), spelling in load_table().popular.items():
        assert spelling in {"".join(letters) for letters in product(*(SPELLINGS[letter] for letter in code))}


def test_lossless_spellings_are_all_different() -> None:
    lossless = [spellings[0] for spellings in SPELLINGS.values()]
    assert len(set(lossless)) == len(SPELLINGS)
    assert len({"".join(pair) for pair in product(lossless, repeat=3)}) == len(SPELLINGS) ** 3


def test_other_documents_are_displayed_unchanged() -> None:
    assert display("PERSONAL_ID", "MA123456").text == "MA123456"
    assert display("PERSONAL_ID", "MA123456").burmese is None


ZAWGYI_RAS = ("\u103b", "\u107e", "\u107f", "\u1080", "\u1081", "\u1082", "\u1083", "\u1084")
VARIANTS = [
    *(("N", f"{na}{vowels}\u1004{asat}")
      for na in "\u1014\u108f"
      for vowels in ("\u102d\u102f", "\u102f\u102d", "\u102d\u1033", "\u1033\u102d")
      for asat in "\u1039\u103a"),
    *(("E", f"\u1027{nnya}{''.join(marks)}")
      for nnya in ("\u100a", "\u106b", "\u1009")
      for dot in "\u1037\u1094\u1095"
      for asat in "\u1039\u103a"
      for marks in ((dot, asat), (asat, dot))),
    *(("P", f"{ra}\u1015{u}") for ra in ZAWGYI_RAS for u in "\u102f\u1033"),
    *(("P", f"\u1015{marks}") for marks in ("\u103c\u102f", "\u102f\u103c", "\u103c\u1033")),
    *(("T", f"\u101e{aa}\u101e{na}{aa}") for aa in "\u102c\u102b" for na in "\u1014\u108f"),
    ("T", "\u101e\u102c"), ("Y", "\u101a\u102c\u101a\u102e"), ("Y", "\u101a\u102b\u101a\u102e"), ("S", "\u1005"),
]  # fmt: skip


@pytest.mark.parametrize(("letter", "word"), VARIANTS)
def test_a_type_is_read_in_every_writing_of_zawgyi_and_unicode(letter: str, word: str) -> None:
    for text in (f"၈/မမန({word})၁၂၃၄၅၆", f"၈မမန{word}၁၂၃၄၅၆", f"8-မမန-{word}-123456"):
        assert canonicalise("NRC", text) == canonicalise("PERSONAL_ID", text) == f"8-191914-{letter}-123456"


@pytest.mark.parametrize(
    "fields", [("1", "MAKANA", "N", "000045"), ("၁", "မကန", "နိုင်", "၀၀၀၀၄၅"), ("1", "190014", "N", "000045")]
)
def test_a_separator_too_many_is_refused_wherever_it_is(fields: tuple[str, ...]) -> None:
    """Stored as an opaque PERSONAL_ID, it would be a second key of the same card."""
    state, town, kind, number = fields
    key = canonicalise("NRC", f"{state}/{town}({kind}){number}")
    pairs = [("(", ")"), ("[", "]"), ("-", "-"), ("/", "/")]
    stray = [f"{state}-{a}{town}-{kind}-{number}" for a in "-/\\(["]
    stray += [f"{state}-{town}{a}{before}{kind}{after}{number}" for a in "-/\\" for before, after in pairs]
    stray += [f"{state}-{town}{before}{kind}{after}{a}{number}" for a in "-/\\" for before, after in pairs]
    stray += [f"{a}{state}-{town}({kind}){number}" for a in "-/\\"] + [
        f"{state}-{town}-{kind}-{number}{a}" for a in "-/\\"
    ]
    stray += [
        f"{state}-{town}({kind}]{number}",
        f"{state}-{town}(({kind})){number}",
        f"({state}){town}({kind}){number}",
    ]
    for text in stray:
        assert get_reason("NRC", text) == get_reason("PERSONAL_ID", text) == "stray_separator", text
    for before, after in [*pairs, ("", ""), ("-", ""), ("", "-")]:
        assert canonicalise("PERSONAL_ID", f"{state}-{town}{before}{kind}{after}{number}") == key


def test_an_operator_adds_a_township(tmp_path: Path) -> None:
    file = tmp_path / "townships.csv"
    file.write_text("state,township_mm,township_en\n6,ဟဟဟ,hahaha\n12,ဉဌဌ,\n13,နစဏ,\n", encoding="utf-8-sig")
    reading = Reading(nrc_townships=read_own(file))
    assert reading.read_hub_key("PERSONAL_ID", "6-HAHAHA-N-123456", None).identifier == "6-1F1F1F-N-123456"
    assert reading.canonicalise("NRC", "12/OUTTHATTHA(N)123456") == "12-250C0C-N-123456"
    assert get_reason("NRC", "6/HAHAHA(N)123456") == "unknown_township_latin"
    # A new code can make a spelling ambiguous that was not: then it is refused, and Burmese letters still work.
    assert canonicalise("NRC", "13/NACANA(N)000123") == "13-140514-N-000123"
    with pytest.raises(BadIdentifier) as refusal:
        reading.canonicalise("NRC", "13/NACANA(N)000123")
    assert refusal.value.reason == "ambiguous_township_latin"
    assert reading.canonicalise("NRC", "13/နစန(N)000123") == "13-140514-N-000123"


def test_excel_can_leave_out_the_last_cell_of_a_township(tmp_path: Path) -> None:
    file = tmp_path / "townships.csv"
    file.write_text("state,township_mm,township_en\n6,ဟဟဟ,hahaha\n12,ဉဌဌ\n,,\n13,နစဏ\n", encoding="utf-8-sig")
    assert [township.state for township in read_own(file)] == ["6", "12", "13"]
    for cut in ("6", "6,ဟဟဟ,hahaha,"):
        file.write_text(f"state,township_mm,township_en\n{cut}\n", encoding="utf-8")
        with pytest.raises(TownshipsError, match="cells instead of 3"):
            read_own(file)
