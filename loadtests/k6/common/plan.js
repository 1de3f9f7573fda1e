// The plan of a run, written by `python -m loadtests.k6`: where to ask, how often, what, and the right answers.
//
//     K6_SCRIPT_PLAN                  the file
//     K6_SCRIPT_ORACLE_ENDPOINT_URL   asks this service instead of that of the plan
//
//     { "endpoint": "http://127.0.0.1:3000", "headers": {...}, "rate": 500, "duration_s": 20, "connections": 32,
//       "limits_ms": {"95": 10, "99": 50}, "lookups": [["MSISDN", "/participants/MSISDN/…", {"partyList": []}], …] }
import { SharedArray } from "k6/data";

const read = () => JSON.parse(open(__ENV.K6_SCRIPT_PLAN));

// All virtual users share one copy of the lookups.
export const lookups = new SharedArray("lookups", () => read().lookups);

const { lookups: _, ...rest } = read();
export const plan = rest;
export const endpoint = __ENV.K6_SCRIPT_ORACLE_ENDPOINT_URL || plan.endpoint;
