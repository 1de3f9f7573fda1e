// Lookups at a fixed rate, as a hub sends them: k6 run -e K6_SCRIPT_PLAN=/path/plan.json index.js
//
// An open model: a new lookup begins at its time, whether or not the earlier ones were answered.  So a service that is
// too slow shows as long waits, and as iterations that k6 drops because all its connections wait.
//
//     K6_SCRIPT_SUMMARY   the file for the figures; without it, they are printed
import { plan, lookups } from "./common/plan.js";

export { lookupScenarios } from "./scenarios/lookups.js";

const names = new Set(lookups.map(([name]) => name));
// k6 keeps figures of one kind of lookup only if a threshold names it; an empty one always holds.
const kinds = [...names].flatMap((name) => [
  [`http_req_duration{name:${name}}`, []],
  [`wrong_answers{name:${name}}`, []],
]);

export const options = {
  scenarios: {
    lookups: {
      executor: "constant-arrival-rate",
      exec: "lookupScenarios",
      rate: plan.rate,
      timeUnit: "1s",
      duration: `${plan.duration_s}s`,
      preAllocatedVUs: plan.connections,
      maxVUs: plan.connections,
      gracefulStop: "20s", // a hub waits 20 s for an answer
    },
  },
  thresholds: {
    http_req_duration: Object.entries(plan.limits_ms).map(([percentile, ms]) => `p(${percentile})<${ms}`),
    dropped_iterations: ["count==0"],
    wrong_answers: ["count==0"],
    ...Object.fromEntries(kinds),
  },
  summaryTrendStats: ["count", "p(50)", "p(95)", "p(99)", "max"],
};

export function handleSummary(data) {
  const text = JSON.stringify({ metrics: data.metrics, milliseconds: data.state.testRunDurationMs });
  return { [__ENV.K6_SCRIPT_SUMMARY || "stdout"]: text };
}
