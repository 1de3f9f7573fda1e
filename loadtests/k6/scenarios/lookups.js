// The lookups of the plan, in its order and then again from its beginning.
import exec from "k6/execution";
import { lookups } from "../common/plan.js";
import { getParticipants } from "../scripts/getParticipants.js";

export function lookupScenarios() {
  getParticipants(lookups[exec.scenario.iterationInTest % lookups.length]);
}
