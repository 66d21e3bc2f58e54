import { create, type DescMessage, type Message, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import {
  AccountSchema,
  type AccountService,
  ReadAccountAuditResponseSchema,
  ReadAccountDataResponseSchema,
  ReadAccountReportResponseSchema,
  ReadAccountStatisticsResponseSchema,
} from "#gen/tollgate/v1/account_pb.js";
import { type AuditService, ReadAuditRequestSchema } from "#gen/tollgate/v1/audit_pb.js";
import { type DataService, ReadDataFilesRequestSchema, ReadDataRequestSchema } from "#gen/tollgate/v1/data_pb.js";
import { type QuotaAdminService, ReadQuotasRequestSchema } from "#gen/tollgate/v1/quota_pb.js";
import {
  ReadReportRequestSchema,
  ReadStatisticsRequestSchema,
  type StatisticsService,
} from "#gen/tollgate/v1/statistics_pb.js";
import { ReadUserRequestSchema, UserSchema, type UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Call, Handlers } from "../../shared/handler.ts";

/** The administrative handlers that the account operations delegate to. */
export interface AccountOptions {
  readonly users: Pick<Handlers<typeof UserService>, "readUser">;
  readonly quotas: Pick<Handlers<typeof QuotaAdminService>, "readQuotas">;
  readonly statistics: Pick<Handlers<typeof StatisticsService>, "readStatistics" | "readReport">;
  readonly audit: Pick<Handlers<typeof AuditService>, "readAudit">;
  readonly data: Pick<Handlers<typeof DataService>, "readData" | "readDataFiles">;
}

/** Every operation delegates to its administrative twin, restricted to the caller. */
export function accountHandlers(options: AccountOptions): Handlers<typeof AccountService> {
  const { users, quotas, statistics, audit, data } = options;
  return {
    async readAccount(_request, call) {
      const { user } = await users.readUser(create(ReadUserRequestSchema, ownName(call)), ofCaller(call));
      const { username, name, email, phone, companyKey, timezone } = create(UserSchema, user);
      return { account: create(AccountSchema, { username, name, email, phone, companyKey, timezone }) };
    },

    async readAccountQuota(_request, call) {
      const { base } = await quotas.readQuotas(create(ReadQuotasRequestSchema, ownName(call)), ofCaller(call));
      return base === undefined ? {} : { base };
    },

    readAccountStatistics: ({ $typeName: _name, ...period }, call) => {
      const request = create(ReadStatisticsRequestSchema, { ...period, ...ownName(call) });
      return convertAll(ReadAccountStatisticsResponseSchema, statistics.readStatistics(request, ofCaller(call)));
    },

    readAccountReport: ({ $typeName: _name, ...period }, call) => {
      const request = create(ReadReportRequestSchema, { ...period, ...ownName(call) });
      return convertAll(ReadAccountReportResponseSchema, statistics.readReport(request, ofCaller(call)));
    },

    readAccountAudit: ({ $typeName: _name, ...given }, call) => {
      const request = create(ReadAuditRequestSchema, { ...given, ...ownName(call) });
      return convertAll(ReadAccountAuditResponseSchema, audit.readAudit(request, ofCaller(call)));
    },

    readAccountData: ({ $typeName: _name, ...given }, call) => {
      const request = create(ReadDataRequestSchema, given);
      return convertAll(ReadAccountDataResponseSchema, data.readData(request, ofCaller(call)));
    },

    async readAccountDataFiles({ tracecode }, call) {
      const { files } = await data.readDataFiles(create(ReadDataFilesRequestSchema, { tracecode }), ofCaller(call));
      return files === undefined ? {} : { files };
    },
  };
}

/** Converts messages to the account's response type, which has the same fields. */
async function* convertAll<Response extends DescMessage>(
  response: Response,
  messages: AsyncIterable<object>,
): AsyncGenerator<MessageShape<Response>> {
  for await (const message of messages) {
    const { $typeName: _name, ...fields } = message as Message;
    yield create(response, fields as MessageInitShape<Response>);
  }
}

function ownName({ principal }: Call): { username: string } {
  return { username: principal.username };
}

/** Returns the call without the caller's roles, so that its scope is the caller alone. */
function ofCaller(call: Call): Call {
  return {
    principal: { ...call.principal, roles: [] },
    tracecode: call.tracecode,
    address: call.address,
    isHttp: call.isHttp,
    get signal() {
      return call.signal;
    },
    get requestHeader() {
      return call.requestHeader;
    },
    get responseHeader() {
      return call.responseHeader;
    },
    change: (resource, work) => call.change(resource, work),
    logFailedLogin: (username) => call.logFailedLogin(username),
    // Reads of the caller's own data are not recorded.
    recordRead: () => undefined,
    admitAgain: async () => ({ ...(await call.admitAgain()), roles: [] }),
    validateItem: (desc, item) => call.validateItem(desc, item),
    toItemError: (error) => call.toItemError(error),
  };
}
