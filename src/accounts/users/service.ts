import { User_Group, UserPatchSchema, type UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Database, Transaction } from "../../postgres/database.ts";
import { isForeignKeyViolation, isUniqueViolation } from "../../postgres/errors.ts";
import { isSinglePage, streamRows } from "../../postgres/stream.ts";
import { alreadyExists, conflict, invalid, notFound } from "../../shared/errors.ts";
import { changedFields } from "../../shared/field-mask.ts";
import { type Call, type Changed, type Handlers, requirePresent } from "../../shared/handler.ts";
import { type Page, pageOf } from "../../shared/pagination.ts";
import { scopeOf } from "../../shared/principal.ts";
import { mergeUser, type RequestedUser, toRoles, toUserMessage, toUserRow } from "./messages.ts";
import { checkExistingRights, checkGrantedRights, checkOwnRights, noSuchCompany } from "./rules.ts";
import {
  deleteUser,
  findUser,
  findUserForUpdate,
  hasAdministrator,
  insertUser,
  type ListedUser,
  type NewUser,
  streamUsers,
  type UserFilter,
  type UserRow,
  updateUser,
} from "./store.ts";
import { createUserTotals, readFirstUsers } from "./totals.ts";

const sortable = {
  username: "username",
  name: "name",
  email: "email",
  phone: "phone",
  company_key: "company_key",
  enabled: "enabled",
  roles: "roles",
  timezone: "timezone",
};

interface PasswordAttempt {
  readonly call: Call;
  readonly username: string;
  readonly password: string;
}

export interface UserOptions {
  readonly database: Database;
  /** Returns the hash of a new password. Throws INVALID_REQUEST for `field` when the password breaks the policy. */
  readonly hashNewPassword: (given: { username: string; password: string; field: string }) => Promise<string>;
  /** Returns undefined when the password is wrong. Limits the number of attempts. */
  readonly login: (attempt: PasswordAttempt) => Promise<object | undefined>;
}

export function userHandlers({ database, hashNewPassword, login }: UserOptions): Handlers<typeof UserService> {
  return {
    async createUser({ user }, call) {
      const requested = requirePresent(user);
      checkGrantedRights(call.principal, requested);
      const row = toUserRow(requested, await hashOf(requested, call));
      return call.change(requested.username, async (transaction) => {
        await insertUser(transaction, row).catch((error: unknown) => {
          throw isUniqueViolation(error) ? alreadyExists("user", requested.username) : companyError(error, requested);
        });
        return { answer: { user: toUserMessage(row) }, companyKey: requested.companyKey };
      });
    },

    async updateUser({ user }, call) {
      const requested = requirePresent(user);
      return changeUser(call, requested, () => requested);
    },

    async patchUser({ username, user, updateMask }, call) {
      const patch = requirePresent(user);
      const fields = changedFields(UserPatchSchema, patch, updateMask);
      const password = fields.includes("password") ? patch.password : undefined;
      return changeUser(call, { username, password }, (existing) => mergeUser(existing, patch, fields));
    },

    async *readUsers(request, call) {
      const page = pageOf(request, sortable);
      const wholeScope: UserFilter = {
        scope: scopeOf(call.principal),
        filter: undefined,
        companyKey: undefined,
        group: "TOTAL",
      };
      const selection: UserFilter = {
        ...wholeScope,
        filter: request.filter,
        companyKey: request.companyKey,
        group: User_Group[requirePresent(request.userGroup)] as UserFilter["group"],
      };
      const isAll = selection.filter === undefined && selection.companyKey === undefined && selection.group === "TOTAL";
      if (isAll && wholeScope.scope.kind === "everything" && isByUsername(page) && isSinglePage(page)) {
        const { users, totals } = await readFirstUsers(database, page);
        call.recordRead({});
        yield { users: users.map((user) => toUserMessage(user)), statistics: { overall: totals, filter: totals } };
        return;
      }
      const all = createUserTotals(database, wholeScope);
      const [overall, filter] = await Promise.all([all, isAll ? all : createUserTotals(database, selection)]);
      call.recordRead({ companyKey: request.companyKey });
      yield { statistics: { overall, filter } };
      const rows = streamUsers(database, selection, page);
      for await (const users of streamRows<ListedUser>(database, rows, { ...page, signal: call.signal })) {
        yield { users: users.map((user) => toUserMessage(user)) };
      }
    },

    async readUser({ username }, call) {
      const user = await findUser(database, scopeOf(call.principal), username);
      if (user === undefined) throw notFound("user", username);
      call.recordRead({ username, companyKey: user.company_key });
      return { user: toUserMessage(user) };
    },

    async deleteUser({ username }, call) {
      await call.change(username, async (transaction) => {
        const existing = await getForUpdate(transaction, username, scopeOf(call.principal));
        checkExistingRights(call.principal, { roles: toRoles(existing) });
        checkOwnRights(call.principal, existing.id, undefined);
        await deleteUser(transaction, existing.id);
        await keepAdministrator(transaction, existing);
        return { answer: undefined, companyKey: existing.company_key, events: ["revoke_tokens"] };
      });
      return {};
    },
  };

  /** Replaces an existing user. Updates and patches follow the same rules. */
  async function changeUser(
    call: Call,
    { username, password }: Pick<RequestedUser, "username" | "password">,
    requestedOf: (existing: UserRow) => RequestedUser,
  ) {
    const passwordHash = await hashOf({ username, password }, call);
    return call.change(username, async (transaction) => {
      const existing = await getForUpdate(transaction, username, scopeOf(call.principal));
      checkExistingRights(call.principal, { roles: toRoles(existing) });
      const requested = requestedOf(existing);
      checkGrantedRights(call.principal, requested);
      checkOwnRights(call.principal, existing.id, requested);
      const row = toUserRow(requested, passwordHash);
      await updateUser(transaction, existing.id, row).catch((error: unknown) => {
        throw companyError(error, requested);
      });
      await keepAdministrator(transaction, existing);
      return {
        answer: { user: toUserMessage(row) },
        companyKey: existing.company_key,
        events: securityEventsOf(existing, row),
      };
    });
  }

  /** Returns null when the stored password stays: no password is set, or callers repeat their own current one. */
  async function hashOf(
    { username, password }: Pick<RequestedUser, "username" | "password">,
    call: Call,
  ): Promise<string | null> {
    if (password === undefined) return null;
    if (username !== call.principal.username) return hashNewPassword({ username, password, field: "password" });
    // The login limits how many passwords the holder of a token can try.
    if ((await login({ username, password, call })) !== undefined) return null;
    const message = "must be your current password; change it with POST /admin/password or POST /account/password";
    throw invalid({ field: "password", message });
  }
}

function isByUsername({ sort, direction }: Page): boolean {
  return sort === "username" && direction === "asc";
}

function securityEventsOf(existing: UserRow, row: NewUser): NonNullable<Changed<unknown>["events"]> {
  const hasNewPassword = row.password_hash !== null;
  const isDisabled = existing.enabled && !row.enabled;
  const hasNewRoles = existing.roles.toSorted().join() !== row.roles.toSorted().join();
  return [
    ...(hasNewRoles ? (["change_roles"] as const) : []),
    ...(hasNewPassword ? (["change_password"] as const) : []),
    ...(hasNewPassword || isDisabled ? (["revoke_tokens"] as const) : []),
  ];
}

async function getForUpdate(transaction: Transaction, username: string, scope: UserFilter["scope"]): Promise<UserRow> {
  const user = await findUserForUpdate(transaction, scope, username);
  if (user === undefined) throw notFound("user", username);
  return user;
}

/** Refuses a change after which no administrator could log in to undo it. */
async function keepAdministrator(transaction: Transaction, changed: UserRow): Promise<void> {
  if (!changed.roles.includes("ADMIN") || (await hasAdministrator(transaction))) return;
  throw conflict(
    "LAST_ADMINISTRATOR",
    "the change would leave no administrator who can log in; grant ADMIN to another enabled user with a password first",
  );
}

function companyError(error: unknown, { companyKey }: RequestedUser): unknown {
  return isForeignKeyViolation(error) ? noSuchCompany(companyKey) : error;
}
