import { setTimeout as wait } from "node:timers/promises";
import { http } from "./client.ts";
import type { Random } from "./random.ts";
import type { Change, Limits } from "./records.ts";
import { groups } from "./workload.ts";
import { adminPassword, type World } from "./world.ts";

/** An administrator who changes users in turn while planners work. */
export interface Administrator {
  /** The current users. A new user replaces a deleted one. */
  users(): readonly string[];
  /** Creates the first users. */
  begin(count: number): Promise<void>;
  run(isOver: () => boolean): Promise<void>;
  /** The number of acknowledged changes, by kind. */
  readonly changes: Map<string, number>;
}

const companies = ["company_a", "company_b", "company_c"];
const changeLimitMs = 90_000;

export function createAdministrator(world: World, token: string, random: Random, pauseMs: number): Administrator {
  let users: readonly string[] = [];
  let made = 0;
  const periods = new Map<string, { from: number; to: number }>();
  const changes = new Map<string, number>();

  /** Sends a change until it is acknowledged; each attempt may take effect. */
  async function change(user: string, what: Change, method: string, path: string, body?: object): Promise<boolean> {
    const giveUpMs = performance.now() + changeLimitMs;
    for (;;) {
      const { url } = random.pick(world.servers);
      const sent = performance.now();
      const { status, body: text } = await http(url, method, path, { token, ...(body && { body }) });
      const isDone =
        (status >= 200 && status < 300) ||
        // An earlier attempt took effect.
        (what.kind === "created" && status === 409) ||
        (status === 404 && (what.kind === "deleted" || (what.kind === "period" && what.limits === undefined)));
      const failure = { code: String(status), reason: "", message: text };
      world.record({ call: "change", sent, answered: performance.now(), user, what, ...(!isDone && { failure }) });
      if (isDone) changes.set(what.kind, (changes.get(what.kind) ?? 0) + 1);
      if (isDone) return true;
      if (status >= 400 && status < 500) throw new Error(`${method} ${path}: ${status} ${text}`);
      if (performance.now() > giveUpMs) throw new Error(`${method} ${path} was not answered: ${status} ${text}`);
      await wait(200);
    }
  }

  function limits(): Record<number, Limits> {
    const randomLimits = (): Limits => ({
      perRequest: random.chance(0.05) ? 0 : random.between(9, 30),
      perDay: random.chance(0.03) ? 0 : random.between(100, 3000),
      ...(random.chance(0.7) && { perWindow: random.between(100, random.chance(0.5) ? 600 : 8000) }),
      running: random.chance(0.03) ? 0 : random.between(2, 30),
    });
    return Object.fromEntries(groups.map((group) => [group, randomLimits()]));
  }

  function quotaOf(all: Record<number, Limits>): object {
    const names: Record<number, string> = { [groups[0]]: "PLAN", [groups[1]]: "MATRIX" };
    const methods = Object.entries(all).map(([group, { perRequest, perDay, perWindow, running }]) => ({
      method_group: names[Number(group)],
      points_per_request: perRequest,
      points_per_day: perDay,
      points_per_date_window: perWindow ?? null,
      max_concurrent_execution: running,
    }));
    return { services: [{ service: "ROUTING", methods }] };
  }

  async function create(): Promise<string> {
    const user = `user_${(made += 1)}`;
    const [company, timezone] = [random.pick(companies), random.between(-12, 12)];
    const body = { username: user, password: adminPassword, company_key: company, timezone, roles: [] };
    await change(user, { kind: "created", company, timezone }, "POST", "/admin/users", body);
    await setBase(user);
    return user;
  }

  function setBase(user: string): Promise<boolean> {
    const all = limits();
    return change(user, { kind: "base", limits: all }, "PUT", `/admin/quotas/${user}`, quotaOf(all));
  }

  async function setPeriod(user: string): Promise<void> {
    const known = periods.get(user);
    if (known !== undefined) {
      const path = `/admin/quotas/${user}?from=${dateOf(known.from)}&to=${dateOf(known.to)}`;
      await change(user, { kind: "period", ...known }, "DELETE", path);
      periods.delete(user);
    }
    if (known !== undefined && random.chance(0.3)) return;
    const from = world.today() - random.between(0, 3);
    const to = Math.max(world.today() + 1, from + random.between(1, 6));
    const all = limits();
    const path = `/admin/quotas/${user}?from=${dateOf(from)}&to=${dateOf(to)}`;
    await change(user, { kind: "period", from, to, limits: all }, "PUT", path, quotaOf(all));
    periods.set(user, { from, to });
  }

  async function changeOne(): Promise<void> {
    const user = random.pick(users);
    const kind = random.next();
    const patch = (what: Change, body: object) => change(user, what, "PATCH", `/admin/users/${user}`, body);
    if (kind < 0.3) await setBase(user);
    else if (kind < 0.5) await setPeriod(user);
    else if (kind < 0.7) {
      const company = random.pick(companies);
      await patch({ kind: "company", company }, { company_key: company });
    } else if (kind < 0.92) {
      const timezone = random.chance(0.4) ? random.pick([-12, 12]) : random.between(-12, 12);
      await patch({ kind: "timezone", timezone }, { timezone });
    } else {
      const replacement = await create();
      users = users.map((name) => (name === user ? replacement : name));
      await change(user, { kind: "deleted" }, "DELETE", `/admin/users/${user}`);
    }
  }

  return {
    changes,
    users: () => users,
    async begin(count) {
      const [{ url } = { url: "" }] = world.servers;
      for (const key of companies) await http(url, "POST", "/admin/companies", { token, body: { key } });
      for (let index = 0; index < count; index += 1) users = [...users, await create()];
    },
    async run(isOver) {
      while (!isOver()) {
        await changeOne();
        await wait(pauseMs);
      }
    },
  };
}

function dateOf(day: number): string {
  return new Date(day * 86_400_000).toISOString().slice(0, 10);
}
