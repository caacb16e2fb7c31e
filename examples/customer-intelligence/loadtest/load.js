// Steady traffic as in production: mostly churn, some lifetime value, some segments.
//   k6 run -e BASE_URL=http://127.0.0.1:8000 -e RATE=100 -e DURATION=30s loadtest/load.js
import http from "k6/http";
import { check } from "k6";

import { BASE_URL, CUSTOMER, HISTORY, JSON_HEADERS, RFM } from "./lib/requests.js";

export const options = {
  scenarios: {
    traffic: {
      // Requests come at a fixed rate whether or not the last ones were answered, as users do;
      // a closed loop would slow down with the service and hide its queue.
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 50),
      timeUnit: "1s",
      duration: __ENV.DURATION || "30s",
      preAllocatedVUs: 20,
      maxVUs: 100,
    },
  },
  thresholds: {
    http_req_failed: ["rate<0.01"],
    "http_req_duration{route:churn}": ["p(95)<100", "p(99)<250"],
    "http_req_duration{route:clv}": ["p(95)<100", "p(99)<250"],
    "http_req_duration{route:segment}": ["p(95)<100", "p(99)<250"],
    dropped_iterations: ["count<10"],
  },
};

const MIX = [
  { share: 0.7, route: "churn", path: "/predict/churn", body: CUSTOMER },
  { share: 0.9, route: "clv", path: "/predict/clv", body: HISTORY },
  { share: 1.0, route: "segment", path: "/segment", body: RFM },
];

export default function () {
  const draw = Math.random();
  const { route, path, body } = MIX.find((item) => draw <= item.share);
  const response = http.post(`${BASE_URL}${path}`, body, { ...JSON_HEADERS, tags: { route } });
  check(response, { "status is 200": (r) => r.status === 200 });
}
