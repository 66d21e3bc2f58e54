import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { StatisticsService } from "#gen/tollgate/v1/statistics_pb.js";
import { type CommandInput, optionOf, requireOption } from "./command.ts";
import { connect } from "./connection.ts";
import { exitCodes } from "./exit-codes.ts";
import { formatBytes } from "./output.ts";

/** Writes the report to a file. An interrupted download leaves no file. */
export async function saveReport(input: CommandInput): Promise<number> {
  const statistics = await connect(input, StatisticsService);
  const [from, to, username] = ["from", "to", "username"].map((name) => optionOf(input, name));
  const path = requireOption(input, "output");
  const request = {
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    ...(username !== undefined && { username }),
  };
  const part = `${path}.part`;
  let bytes = 0;
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for await (const { file } of statistics.readReport(request, { signal: input.signal })) {
      const data = file?.data ?? new Uint8Array();
      bytes += data.length;
      input.output.progress(`${path}: ${formatBytes(bytes)}`);
      yield data;
    }
  }
  try {
    await pipeline(Readable.from(pieces()), createWriteStream(part));
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
  input.output.value({ file: path, bytes }, `${path}: ${bytes} bytes`);
  return exitCodes.fine;
}
