// Posts messages at a constant arrival rate, and writes one line for each request: its number, the
// message's id, when it began and ended (milliseconds since the epoch), how late it began, status.
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import http from "k6/http";

const plan = JSON.parse(open(__ENV.PLAN));
// Of each lane what its requests have in common: built once, as text, which costs least to share.
const lanes = new SharedArray("lanes", () =>
  plan.lanes.map(
    (lane) =>
      `"conversation_id":"${lane.conversation_id}","sender_id":"${lane.sender_id}",` +
      `"content":"${plan.run} ${lane.conversation_id}`,
  ),
);
const params = {
  headers: {
    Authorization: `Bearer ${__ENV.CHAT4ALL_API_KEY}`,
    "Content-Type": "application/json",
  },
  timeout: `${plan.timeout_s}s`,
};

export const options = {
  discardResponseBodies: true,
  summaryTrendStats: ["p(50)", "p(95)", "p(99)", "max"],
  systemTags: ["status"],
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      // Making all users keeps the machine busy: who is measured may come to rest first.
      startTime: `${plan.rest_s}s`,
      rate: plan.rate_per_s,
      timeUnit: "1s",
      duration: `${plan.seconds}s`,
      preAllocatedVUs: plan.users,
      maxVUs: plan.users,
      gracefulStop: `${plan.timeout_s}s`,
    },
  },
};

function messageId(at, number) {
  const time = at.toString(16).padStart(12, "0");
  const counter = number.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${plan.run.slice(0, 3)}-8${plan.run.slice(3, 6)}-${counter}`;
}

export default function () {
  const number = exec.scenario.iterationInTest;
  const lane = lanes[number % lanes.length];
  const sequence = Math.floor(number / lanes.length);
  const began = Date.now();
  const id = messageId(began, number);
  const body = `{"message_id":"${id}",${lane} ${sequence}"}`;
  const answer = http.post(plan.url, body, params);
  const late = began - exec.scenario.startTime - (number * 1000) / plan.rate_per_s;
  console.log(`[${number},"${id}",${began},${Date.now()},${late},${answer.status}]`);
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data) };
}
