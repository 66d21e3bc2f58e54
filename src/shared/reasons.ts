import { Code } from "@connectrpc/connect";
import type { CallReason } from "../call/errors.ts";

/** The meaning of a reason. docs/errors.md and docs/errors_en.html are generated from this table. */
export interface ReasonEntry {
  /** The gRPC and Connect code. */
  readonly code: Code;
  /** The HTTP status of HTTP/JSON. */
  readonly status: number;
  /** Whether the same call, sent again unchanged, may succeed. */
  readonly retry: boolean;
  readonly cause: string;
  readonly cure: string;
}

const { InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted } = Code;
const { Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded, Unimplemented } = Code;

/** Every reason of an error, in groups by what a caller can do. */
const table = {
  // The request.
  INVALID_REQUEST: no(
    InvalidArgument,
    400,
    "A field breaks a rule, or the body is not JSON. The violations name each field and its rule; nothing has changed.",
    "Correct the named fields and send the call again.",
  ),
  MALFORMED_MESSAGE: no(
    InvalidArgument,
    400,
    "The message cannot be decoded: it is not a protobuf message of the request type, or its envelope is damaged.",
    "Send a message of the RPC's request type in the encoding that the content type names.",
  ),
  MALFORMED_HTTP: no(
    InvalidArgument,
    400,
    "The bytes on the connection are not an HTTP request, the HTTP/1.1 request does not have exactly one Host header, or its URL has a fragment.",
    "Use an HTTP client, and check whether the port speaks TLS.",
  ),
  HEADERS_TOO_LARGE: no(
    InvalidArgument,
    431,
    "The headers of the request are larger than the server reads.",
    "Send fewer or shorter headers.",
  ),
  HEADERS_TOO_SLOW: yes(
    DeadlineExceeded,
    408,
    "The headers of the request did not arrive in time.",
    "Send the request again, and check the network.",
  ),
  BODY_TOO_SLOW: yes(
    DeadlineExceeded,
    408,
    "The body of the request did not arrive in time.",
    "Send the request again, and check the network.",
  ),
  TOO_LARGE: no(
    ResourceExhausted,
    413,
    "The body, the message or the uploaded data is larger than the server's limit.",
    "Send less at once. The operator sets the limits with MAX_BODY_BYTES and DATA_MAX_BYTES.",
  ),
  UNSUPPORTED_MEDIA_TYPE: no(
    InvalidArgument,
    415,
    "The operation does not accept the content type or the content coding of the body.",
    "Send application/json in UTF-8, not compressed, or the content type of gRPC, gRPC-Web or Connect.",
  ),
  PRECONDITION_FAILED: no(
    FailedPrecondition,
    412,
    "The If-Match header does not name the current ETag of the response.",
    "Send the request without If-Match, and use the ETag of the response.",
  ),
  RANGE_NOT_SATISFIABLE: no(
    Code.OutOfRange,
    416,
    "The Range header asks for bytes beyond the end of the data.",
    "Read the length in Content-Range, and ask for a part within it.",
  ),
  NO_SUCH_PATH: no(
    NotFound,
    404,
    "No operation has this path, or the server has no RPC of this name: gRPC callers get UNIMPLEMENTED for that.",
    "Compare the path with the documentation; a trailing slash and an empty segment are part of a path.",
  ),
  HTTP_METHOD_NOT_ALLOWED: no(
    Unimplemented,
    405,
    "The path exists, but not with this HTTP method.",
    "Use one of the methods in the Allow header.",
  ),
  HTTP_METHOD_UNKNOWN: no(
    Unimplemented,
    501,
    "The server does not know the HTTP method of the request.",
    "Use a standard method.",
  ),
  HTTP_VERSION_NOT_SUPPORTED: no(
    Unimplemented,
    505,
    "The RPC streams in both directions, which needs HTTP/2.",
    "Call it over HTTP/2.",
  ),
  PROTOCOL_VIOLATION: no(
    Unimplemented,
    501,
    "The call breaks a rule of gRPC, gRPC-Web or Connect: it has no message, or more than one for a unary RPC, or an unknown compression.",
    "Use a maintained client library, and generate it from the current .proto files.",
  ),
  SERVICE_UNKNOWN: no(
    NotFound,
    404,
    "The health check asks for a service that this server does not have.",
    "Ask for a service that reflection lists, or with an empty name for the whole server.",
  ),

  // The caller.
  TOKEN_MISSING: no(
    Unauthenticated,
    401,
    "The call has no token.",
    "Log in at POST /admin/token/generation and send `Authorization: Bearer <token>`.",
  ),
  TOKEN_INVALID: no(
    Unauthenticated,
    401,
    "The token is not valid: it is malformed, has expired, or was revoked by a change of the password, or its user is disabled.",
    "Log in again.",
  ),
  WRONG_CREDENTIALS: no(
    Unauthenticated,
    401,
    "The username or the password is wrong, or the user is disabled. The response does not say which.",
    "Check both. Further failures are counted and lock the login for a time.",
  ),
  LOGIN_LOCKED: yes(
    ResourceExhausted,
    429,
    "Too many logins with this name or from this address have failed.",
    "Wait for the seconds in Retry-After.",
  ),
  ROLE_REQUIRED: no(
    PermissionDenied,
    403,
    "The caller's roles do not allow this operation.",
    "The documentation of the operation names the roles; an administrator grants them.",
  ),
  ROLE_RESERVED: no(
    PermissionDenied,
    403,
    "The call grants a role, or changes a user with a role, that only an ADMIN may grant or change.",
    "Ask an administrator.",
  ),

  // Resources.
  COMPANY_NOT_FOUND: no(
    NotFound,
    404,
    "No company has this key, or it is not the caller's own company.",
    "Check the key.",
  ),
  USER_NOT_FOUND: no(
    NotFound,
    404,
    "There is no such user, or the user belongs to another company.",
    "Check the name.",
  ),
  QUOTA_NOT_FOUND: no(
    NotFound,
    404,
    "The user has no quota for exactly this period.",
    "Read the user's quotas, and name a period as it is listed.",
  ),
  LEASE_NOT_FOUND: no(
    NotFound,
    404,
    "The lease does not exist, or it ended so long ago that it is no longer stored.",
    "Use the lease_id that AcquireQuota returned.",
  ),
  DATA_NOT_FOUND: no(
    NotFound,
    404,
    "No data is stored for this tracecode, flow and stage, or it belongs to a user whose data the caller may not read.",
    "Check the tracecode, data_flow_type and data_flow_stage; retention removes old data.",
  ),
  FILE_NOT_FOUND: no(NotFound, 404, "The documentation has no file of this name.", "Use admin_en.html."),
  COMPANY_EXISTS: no(
    AlreadyExists,
    409,
    "A company with this key exists.",
    "Choose another key, or update the company.",
  ),
  USER_EXISTS: no(
    AlreadyExists,
    409,
    "A user with this name exists, in this or in another company.",
    "Choose another name, or update the user.",
  ),
  ACTION_EXISTS: no(
    AlreadyExists,
    409,
    "Another action of the same time, tracecode and operation is recorded, with another user, service, method group or points.",
    "Give each action a time or an operation of its own. The other actions of the call are recorded. Repeating the same action is not an error.",
  ),
  DATA_EXISTS: no(
    AlreadyExists,
    409,
    "Other data is stored for this tracecode, flow and stage.",
    "Data does not change: use another tracecode or stage. Repeating the same bytes is not an error.",
  ),
  COMPANY_HAS_USERS: no(
    FailedPrecondition,
    409,
    "The company cannot be removed while users belong to it.",
    "Remove its users or move them to another company first.",
  ),
  KEY_HAS_HISTORY: no(
    FailedPrecondition,
    409,
    "The key belonged to a company that was removed, whose audit log and usage are still kept under it.",
    "Choose another key.",
  ),
  LAST_ADMINISTRATOR: no(
    FailedPrecondition,
    409,
    "The change would leave no administrator who can log in.",
    "Grant ADMIN to another enabled user with a password first.",
  ),
  OWN_ACCOUNT: no(
    FailedPrecondition,
    409,
    "Callers cannot remove or disable their own user, nor take the role ADMIN from it.",
    "Ask another administrator.",
  ),
  PASSWORD_CHANGED: no(
    FailedPrecondition,
    409,
    "The password was changed by another call at the same time.",
    "Log in with the current password and try again.",
  ),
  PERIOD_OVERLAP: no(
    FailedPrecondition,
    409,
    "The period overlaps another period of the same user, service and method group.",
    "Remove the other period first, or choose days outside of it.",
  ),

  // Quotas.
  REQUEST_POINTS_EXCEEDED: no(
    FailedPrecondition,
    409,
    "The request has more points than points_per_request allows.",
    "Split the request. Waiting does not help.",
  ),
  DAILY_POINTS_EXCEEDED: yes(
    ResourceExhausted,
    429,
    "The points left of points_per_day are fewer than the request needs.",
    "Wait for the time in RetryInfo or Retry-After. Without one the request is larger than the whole limit.",
  ),
  DATE_WINDOW_POINTS_EXCEEDED: yes(
    ResourceExhausted,
    429,
    "The points left of points_per_date_window are fewer than the request needs.",
    "Wait for the time in RetryInfo or Retry-After. Without one the request is larger than the whole limit.",
  ),
  CONCURRENCY_LIMIT_EXCEEDED: yes(
    ResourceExhausted,
    429,
    "The number of running calculations has reached max_concurrent_execution.",
    "Wait for the time in RetryInfo or Retry-After: a slot is free when a lease is settled, released or expires.",
  ),
  USER_DISABLED: no(PermissionDenied, 403, "The user of the request is disabled.", "Enable the user."),
  NO_QUOTA: no(
    PermissionDenied,
    403,
    "The user has no quota for this service and method group on this day.",
    "Set a quota for it, or call a method that the user has a quota for.",
  ),
  OPERATION_POINTS_DIFFER: no(
    AlreadyExists,
    409,
    "The operation_id has a running lease with another number of points.",
    "Repeat a call with the same points, or use a new operation_id.",
  ),
  OPERATION_SETTLED: no(
    AlreadyExists,
    409,
    "The operation_id has run: its lease is settled and charged.",
    "Use a new operation_id for another calculation. Do not run this one again.",
  ),
  LEASE_LOST: no(
    FailedPrecondition,
    409,
    "The lease has expired and its slot is taken, or it has been released or settled.",
    "Do not stop a running calculation: settle the lease when it ends. Acquire another lease for a new calculation.",
  ),
  LEASE_SETTLED_DIFFERENTLY: no(
    AlreadyExists,
    409,
    "The lease has been settled with another number of points.",
    "The first settlement counts. Repeat a settlement with the same points.",
  ),
  WATCH_TOO_LARGE: no(
    FailedPrecondition,
    409,
    "The company has more users or quotas than one stream of usage watches.",
    "Watch users one by one, or read their usage with GetQuotaUsage.",
  ),

  // The service.
  DATABASE_UNAVAILABLE: yes(
    Unavailable,
    503,
    "PostgreSQL does not respond.",
    "Try again after the seconds in Retry-After.",
  ),
  COUNTERS_UNAVAILABLE: yes(
    Unavailable,
    503,
    "The quota counters do not respond, or are being rebuilt from the ledger.",
    "Try again after the seconds in Retry-After.",
  ),
  LEDGER_BEHIND: yes(
    Unavailable,
    503,
    "More entries wait for PostgreSQL than the service keeps in memory.",
    "Try again after the seconds in Retry-After.",
  ),
  TOO_BUSY: yes(
    Unavailable,
    503,
    "Too many calls of this kind are running: logins, long lists, uploads, conversions or streams of usage.",
    "Try again after the seconds in Retry-After.",
  ),
  WATCH_ENDED: yes(
    Unavailable,
    503,
    "The server stops, or the stream has lasted as long as a stream may.",
    "Open the stream again after the delay in RetryInfo. It begins with all usage.",
  ),
  READER_TOO_SLOW: yes(
    Unavailable,
    503,
    "The caller read the response too slowly, so the server closed its database snapshot.",
    "Read faster, or ask for less at once with offset and limit.",
  ),
  UPLOAD_INTERRUPTED: yes(
    Unavailable,
    503,
    "Another upload of the same data ran at the same time, or its storage was being created.",
    "Send the data again.",
  ),
  DEADLINE_EXCEEDED: yes(
    DeadlineExceeded,
    504,
    "The call took longer than its deadline.",
    "Try again with a longer deadline. A change may have been made: read it first.",
  ),
  CALLER_GONE: yes(
    Code.Canceled,
    499,
    "The caller canceled the call or closed the connection. Only logs show this reason.",
    "Nothing to do. A change may have been made: read it before you repeat it.",
  ),
  INTERNAL: no(
    Code.Internal,
    500,
    "A fault of the service. The log has the cause under the tracecode of the response.",
    "Give the tracecode to the operator.",
  ),
} as const satisfies Readonly<Record<string, ReasonEntry>> & Readonly<Record<CallReason, ReasonEntry>>;

export type Reason = keyof typeof table;

export const reasons: Readonly<Record<Reason, ReasonEntry>> = table;

/** Returns the reason of an error that a protocol library created without one. */
export function reasonOfCode(code: Code): Reason {
  return byCode.get(code) ?? "INTERNAL";
}

const byCode: ReadonlyMap<Code, Reason> = new Map<Code, Reason>([
  [InvalidArgument, "MALFORMED_MESSAGE"],
  [ResourceExhausted, "TOO_LARGE"],
  [Unimplemented, "PROTOCOL_VIOLATION"],
  [DeadlineExceeded, "DEADLINE_EXCEEDED"],
  [Code.Canceled, "CALLER_GONE"],
]);

function yes(code: Code, status: number, cause: string, cure: string): ReasonEntry {
  return { code, status, retry: true, cause, cure };
}

function no(code: Code, status: number, cause: string, cure: string): ReasonEntry {
  return { code, status, retry: false, cause, cure };
}
