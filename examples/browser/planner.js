// Acquires a lease, renews it while a calculation runs, and settles it. Calls the HTTP/JSON API at the page's own address.

const form = document.getElementById("form");
const steps = document.getElementById("steps");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  steps.replaceChildren();
  const { login, password, username, points } = Object.fromEntries(new FormData(form));
  try {
    const { token } = await post("/admin/token/generation", { username: login, password });
    await plan({ token, username, points: Number(points) });
  } catch (error) {
    show(error.message);
  }
});

async function plan({ token, username, points }) {
  // A repeated request must have the same operation_id: the points are then charged once.
  const operation_id = crypto.randomUUID();
  const request = { username, service: "UNIVERSAL", method_group: "PLAN", points, operation_id };
  const { lease } = await post("/quota/leases", request, token);
  show(`granted: ${lease.points} points`);
  const path = `/quota/leases/${lease.lease_id}`;
  // The lease lives for 60 seconds. Three renewals fit: two may be lost.
  const renewals = setInterval(() => post(`${path}:renew`, {}, token).catch(() => undefined), 20_000);
  try {
    const used = await calculate(points);
    const settled = await post(`${path}:settle`, { points: used, outcome: "SUCCESS" }, token);
    show(`settled: ${settled.lease.settled_points} points`);
  } finally {
    clearInterval(renewals);
  }
}

/** Stands for the calculation. It does not need all of its points. */
async function calculate(points) {
  return Math.floor(points / 2);
}

/** Sends JSON and returns the answer. The error of a refusal has its reason. */
async function post(path, body, token) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.reason}: ${answer.message}`);
  return answer;
}

function show(text) {
  const step = document.createElement("li");
  step.textContent = text;
  steps.append(step);
}
