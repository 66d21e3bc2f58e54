import type { MessageInitShape } from "@bufbuild/protobuf";
import type { UserUsageSchema, WatchQuotaUsageRequest } from "#gen/tollgate/v1/lease_pb.js";
import { notFound } from "../../shared/errors.ts";
import type { Call } from "../../shared/handler.ts";
import type { Subject } from "../limits/subjects.ts";
import type { UsageUpdate, UsageWatches, Watch } from "../watch/usage-watches.ts";
import { toLimitMessages } from "./limit-messages.ts";
import { maySee, maySeeCompany } from "./visibility.ts";

export interface WatchUsageOptions {
  readonly watches: UsageWatches;
  readonly isCompany: (key: string) => Promise<boolean>;
  /** Returns the usernames of a company in order, at most `limit`. */
  readonly listCompanyUsers: (key: string, limit: number) => Promise<readonly string[]>;
}

/**
 * Streams the usage of a user or of a company.
 * @param getVisibleSubject throws USER_NOT_FOUND when the caller may not see the user
 */
export async function* watchUsage(
  options: WatchUsageOptions,
  { subject }: WatchQuotaUsageRequest,
  call: Call,
  getVisibleSubject: (username: string) => Promise<Subject>,
) {
  const watch =
    subject.case === "companyKey"
      ? await watchCompany(options, subject.value, call)
      : watchUser(await getVisibleSubject(subject.value ?? ""), call);
  for await (const { usages, more } of options.watches.open(watch)) yield { usages: usages.map(toUsage), more };
}

function watchUser({ username, userId, companyKey }: Subject, call: Call): Watch {
  call.recordRead({ username, companyKey });
  return {
    callerId: call.principal.userId,
    callerCompany: call.principal.companyKey,
    signal: call.signal,
    async resolve() {
      const principal = await call.admitAgain();
      return {
        usernames: [username],
        isVisible: (found) => found.userId === userId && maySee(principal, found),
        missing: notFound("user", username),
      };
    },
  };
}

async function watchCompany(options: WatchUsageOptions, key: string, call: Call): Promise<Watch> {
  // Another company and a missing one run one query each, so that response times reveal nothing.
  const isCompany = await options.isCompany(key);
  if (!isCompany || !maySeeCompany(call.principal, key)) throw notFound("company", key);
  call.recordRead({ companyKey: key });
  return {
    callerId: call.principal.userId,
    callerCompany: call.principal.companyKey,
    signal: call.signal,
    async resolve(maxUsers) {
      if (!maySeeCompany(await call.admitAgain(), key)) throw notFound("company", key);
      const usernames = await options.listCompanyUsers(key, maxUsers + 1);
      return { usernames, isVisible: ({ companyKey }) => companyKey === key };
    },
  };
}

function toUsage({ meter, isGone }: UsageUpdate["usages"][number]): MessageInitShape<typeof UserUsageSchema> {
  const { user, service, methodGroup, state } = meter;
  const limits = isGone || state === undefined ? [] : toLimitMessages(state);
  return { username: user.username, service, methodGroup, limits };
}
