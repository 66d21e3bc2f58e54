import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** A check in the service that keeps its records consistent, and the edit that disables it in a copy of the code. */
export interface Guard {
  readonly name: string;
  readonly file: string;
  /** Source text that occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  /** The prefix of the names of faults that reveal the missing guard. */
  readonly faults: string;
  /** The pause between two changes of users, in milliseconds. Default: the pause of every history. */
  readonly changePauseMs?: number;
}

export const guards: readonly Guard[] = [
  {
    name: "a prime must present its token",
    file: "src/quotas/counters/prime.lua",
    find: "if kept[2] ~= generation .. ' ' .. ARGV[3] then",
    replace: "if false then",
    faults: "redis: ",
  },
  {
    name: "servers flush before the ledger is read",
    file: "src/quotas/open-quotas.ts",
    find: "      flush: () => notifications.barrier(),\n",
    replace: "",
    faults: "redis: FLUSHALL",
  },
  {
    name: "a settled operation is not charged again by the counters",
    file: "src/quotas/counters/meter.lua",
    find: "if before == 's' then return of_lease(lease.settled == points and 'done' or 'conflict') end",
    replace: "",
    faults: "server: ",
  },
  {
    name: "a settled lease is not charged again by the ledger",
    file: "src/quotas/ledger/lease-statements.ts",
    find: "put.username, put.company_key, put.tracecode, put.holder, put.username is not null as is_changed",
    replace: "entry.username, entry.company_key, entry.tracecode, entry.holder, true as is_changed",
    faults: "server: ",
  },
  {
    name: "a restored lease is not charged again",
    file: "src/quotas/counters/meter.lua",
    find: "lease = parse(command.holder)\n",
    replace: "lease = parse(command.holder)\n    if lease.state == 's' then charge(lease) end\n",
    faults: "clock: +3",
  },
  {
    name: "a lease that the counters have lost is restored",
    file: "src/quotas/counters/counters.ts",
    find: 'return reply.kind === "unknown" && restore(request);',
    replace: "return false;",
    faults: "clock: +3",
  },
  {
    name: "the counters hold the limit of a date window",
    file: "src/quotas/counters/meter.lua",
    find: "if from <= of_day and of_day < to then over(quota.window, 'pointsPerDateWindow', window_used + window_reserved + wanted) end",
    replace: "",
    faults: "clock: +1",
    // The checker accepts every limit of the last seconds, so limits must change less often.
    changePauseMs: 15_000,
  },
  {
    name: "a day continues at the UTC offset at which it is counted",
    file: "src/quotas/ledger/read.ts",
    find: "const current = continues ?",
    replace: "const current = false as boolean ?",
    faults: "redis: FLUSHALL",
    // A user's timezone must move far from west to east shortly before the loss.
    changePauseMs: 100,
  },
  {
    name: "expired leases free their slots",
    file: "src/quotas/counters/meter.lua",
    find: "for _, name in ipairs(call('ZRANGEBYSCORE', leases, '(0', now)) do",
    replace: "for _, name in ipairs({}) do",
    faults: "server: SIGSTOP",
  },
  {
    name: "counters of an earlier Redis are not trusted",
    file: "src/quotas/ledger/read.ts",
    find: "leases: all.map(toLease),",
    replace: "leases: [],",
    faults: "redis: FLUSHALL",
  },
  {
    name: "a settlement is acknowledged only after its commit",
    file: "src/quotas/leases/settle.ts",
    find: "const kept = await options.ledger.commit(",
    replace:
      "const kept = ((entry: LedgerEntry): { points: number } | undefined => void options.ledger.append(entry))(",
    faults: "server: kill -9",
  },
];

/** Copies the code with the guard disabled. Returns the folder and a function that removes it. */
export async function withoutGuard({
  file,
  find,
  replace,
}: Guard): Promise<{ folder: string; remove(): Promise<void> }> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const folder = await mkdtemp(join(tmpdir(), "tollgate-guard-"));
  for (const part of ["src", "test/support", "package.json", "tsconfig.json"]) {
    await cp(join(root, part), join(folder, part), { recursive: true });
  }
  for (const part of ["gen", "node_modules"]) await symlink(join(root, part), join(folder, part));
  const text = await readFile(join(folder, file), "utf8");
  if (text.split(find).length !== 2) throw new Error(`${file} must contain this text exactly once: ${find}`);
  await writeFile(
    join(folder, file),
    text.replace(find, () => replace),
  );
  return { folder, remove: () => rm(folder, { recursive: true }) };
}
