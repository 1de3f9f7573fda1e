// One call of an ALS to an oracle: GET /participants/{Type}/{ID}, and the check of its whole answer.
import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";
import { endpoint, plan } from "../common/plan.js";

export const wrongAnswers = new Counter("wrong_answers");

function isEqual(one, other) {
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return one === other;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => isEqual(one[name], other[name]));
}

function readBody(response) {
  try {
    return response.json();
  } catch (_) {
    return undefined; // no JSON is a wrong answer
  }
}

export function getParticipants([name, target, expected]) {
  const response = http.get(endpoint + target, { headers: plan.headers, tags: { name } });
  const right = check(
    response,
    {
      ALS_ORACLE_GET_PARTICIPANTS_RESPONSE_IS_200: ({ status }) => status === 200,
      ALS_ORACLE_GET_PARTICIPANTS_RESPONSE_IS_RIGHT: (given) => isEqual(readBody(given), expected),
    },
    { name },
  );
  wrongAnswers.add(right ? 0 : 1, { name });
}
