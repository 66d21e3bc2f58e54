import { timestampDate } from "@bufbuild/protobuf/wkt";
import { LimitStanding_Name, QuotaService } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import type { CommandInput } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";

/** Prints the state of every limit of a user. */
export async function showUsage(input: CommandInput): Promise<number> {
  const quotas = await connect(input, QuotaService);
  const [username = ""] = input.arguments;
  const { usages } = await quotas.getQuotaUsage({ username }, { signal: input.signal });
  const rows = usages.flatMap(({ service, methodGroup, limits }) =>
    limits.map(({ name, limit, used, reserved, remaining, resetTime }) => ({
      service: Service_Name[service],
      method: Method_Group[methodGroup],
      limit: LimitStanding_Name[name]?.toLowerCase(),
      used,
      reserved,
      of: limit,
      remaining,
      resets: resetTime && timestampDate(resetTime).toISOString(),
    })),
  );
  input.output.rows(rows);
  return exitCodes.fine;
}
