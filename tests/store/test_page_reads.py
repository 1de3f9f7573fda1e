"""Lists of files and of routes read little, also where few fit, among many others."""

from __future__ import annotations

import asyncpg
from query_plans import count_read, read_plan, write_explain

LIMIT = 51
PARAMETERS = ("fsp_id", "states", "uploaders", "since", "until", "before", "limit", "people", "fsps", "is_change")

# A year of files of 100 FSPs: a minute between two; one in fifty was decided by somebody.
FILL = """
INSERT INTO fsps (fsp_id) SELECT 'fsp-' || n FROM generate_series(0, 99) AS n;
INSERT INTO batches (fsp_id, state, file_name, file_format, file_bytes, file_sha256, uploaded_by, uploaded_role,
                     needs_approval, uploaded_at, decided_by, decided_at)
SELECT 'fsp-' || n % 100, CASE WHEN n % 4 = 0 THEN 'rejected' ELSE 'done' END::batch_state, 'a.csv', 'csv', 1, '',
       'maker-' || n % 500, 'dfsp-maker', false, '2025-01-01'::timestamptz + n * interval '1 minute',
       CASE WHEN n % 50 = 0 THEN 'checker' END, CASE WHEN n % 50 = 0 THEN '2026-01-01'::timestamptz END
FROM generate_series(1, 20000) AS n;
ANALYZE batches;
"""


async def test_a_list_of_files_reads_few_of_them(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(FILL)
        for filters in (
            {}, {"fsp_id": "'fsp-7'"}, {"states": "'{failed}'"}, {"states": "'{waiting,applying,validating}'"},
            {"states": "'{done}'"}, {"states": "'{done}'", "fsp_id": "'fsp-7'"}, {"people": "'{nobody}'"},
            {"people": "'{maker-7}'"}, {"uploaders": "'{maker-7}'"}, {"before": "'60'"}, {"is_change": "false"},
            {"since": "'2020-01-01'", "until": "'2020-01-02'"}, {"since": "'2030-01-01'"},
            {"since": "'2025-01-01 01:00'", "until": "'2025-01-01 02:00'"}, {"until": "'2025-01-01 00:30'"},
        ):  # fmt: skip
            arguments = [{"limit": str(LIMIT), **filters}.get(name, "NULL") for name in PARAMETERS]
            arguments[1] += "::batch_state[]"
            plan = read_plan(await connection.fetchval(write_explain("batches_page", arguments)))
            # Of one FSP, all of its 200 at most.
            assert count_read(plan, "batches") <= 4 * LIMIT, (filters, plan)
    finally:
        await connection.close()


async def test_a_list_of_the_routes_of_a_kind_reads_none_of_other_kinds(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO fsps (fsp_id) VALUES ('greenbank');"
            "INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to)"
            " SELECT 'ACCOUNT_ID', 'ACCOUNT_ID', 'A' || n, 'greenbank', now(), 'infinity'"
            " FROM generate_series(1, 5000) AS n;"
            "ANALYZE routes"
        )
        for kind in ("'EMAIL'", "'MSISDN'"):
            arguments = [kind, *["NULL"] * 8, "101", "NULL", kind]
            plan = read_plan(await connection.fetchval(write_explain("routes_page", arguments)))
            assert count_read(plan, "routes") == 0, plan
    finally:
        await connection.close()
