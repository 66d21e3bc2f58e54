import { randomUUID } from "node:crypto";
import { Outcome_Name } from "#gen/tollgate/v1/lease_pb.js";
import { Method_Group, Service_Name } from "#gen/tollgate/v1/tracedata_pb.js";
import type { AlertWriter, Charge, Charged } from "../shared/alerts.ts";
import { toIsoDay, toIsoTime } from "../shared/calendar.ts";
import type { Action } from "../shared/records.ts";
import { pointsOf, type Threshold, type Thresholds, thresholdsOf } from "../shared/thresholds.ts";
import { insertAlerts, type NewAlert } from "./outbox.ts";

export interface AlertWriterOptions extends Pick<AlertWriter, "limitsOf" | "scheduleDelivery"> {
  readonly thresholds: Thresholds;
  /** The name of this server in tracedata. */
  readonly serverName: string;
}

/** A limit that a charge counts against. */
interface Limit {
  readonly name: NewAlert["limit_name"];
  readonly points: number;
  readonly charged: Charged;
  readonly from: string;
  readonly to: string;
}

interface Reached {
  readonly charge: Charge;
  readonly limit: Limit;
  readonly threshold: Threshold;
  readonly alert: NewAlert;
}

/** The operation of an alert in the audit log. */
const operation = "quota_alert";

/** Creates the writer of alerts. A transaction that reaches no threshold costs no statement. */
export function createAlertWriter({ thresholds, serverName, ...functions }: AlertWriterOptions): AlertWriter {
  return {
    ...functions,
    async write(transaction, charges) {
      const reached = charges.flatMap((charge) => findReached(charge, thresholds));
      if (reached.length === 0) return [];
      const inserted = await insertAlerts(
        transaction,
        reached.map(({ alert }) => alert),
      );
      return reached.filter(({ alert }) => inserted.has(alert.id)).map((one) => toAction(one, serverName));
    },
  };
}

/** Returns the thresholds that the points of a charge reach, and that the points before it did not reach. */
function findReached(charge: Charge, thresholds: Thresholds): Reached[] {
  const known = charge.limits.thresholds ?? thresholdsOf(thresholds, charge.username, charge.companyKey);
  return limitsOf(charge).flatMap((limit) =>
    known.flatMap((threshold) => {
      const { total, added } = limit.charged;
      const points = pointsOf(threshold, limit.points);
      if (limit.points === 0 || total < points || total - added >= points) return [];
      return [{ charge, limit, threshold, alert: toAlert(charge, limit, threshold) }];
    }),
  );
}

function limitsOf({ day, limits, ofDay, ofWindow }: Charge): Limit[] {
  const { pointsPerDay, pointsPerDateWindow, window } = limits;
  const found: Limit[] = [];
  if (pointsPerDay !== undefined) {
    const days = { from: toIsoDay(day), to: toIsoDay(day + 1) };
    found.push({ name: "POINTS_PER_DAY", points: pointsPerDay, charged: ofDay, ...days });
  }
  if (pointsPerDateWindow !== undefined) {
    const days = { from: toIsoDay(window.from), to: toIsoDay(window.to) };
    found.push({ name: "POINTS_PER_DATE_WINDOW", points: pointsPerDateWindow, charged: ofWindow, ...days });
  }
  return found;
}

function toAlert(charge: Charge, limit: Limit, threshold: Threshold): NewAlert {
  const { userId, username, companyKey, service, methodGroup, timeMicros, tracecode } = charge;
  const body = {
    type: "quota.threshold_reached",
    timestamp: toIsoTime(timeMicros),
    data: {
      username,
      company_key: companyKey,
      service: Service_Name[service],
      method_group: Method_Group[methodGroup],
      limit: limit.name,
      from: limit.from,
      to: limit.to,
      limit_points: limit.points,
      threshold: threshold.text,
      threshold_points: pointsOf(threshold, limit.points),
      used_points: limit.charged.total,
      tracecode,
    },
  };
  return {
    id: randomUUID(),
    user_id: userId,
    service,
    method_group: methodGroup,
    limit_name: limit.name,
    window_from: limit.from,
    window_to: limit.to,
    threshold: threshold.text,
    body: JSON.stringify(body),
  };
}

function toAction({ charge, limit, threshold, alert }: Reached, server: string): Action {
  const { userId, username, companyKey, service, methodGroup, timeMicros, tracecode } = charge;
  return {
    timeMicros,
    tracecode,
    operation,
    part: alert.id,
    userId,
    username,
    companyKey,
    server,
    service: Service_Name.ADMIN,
    methodGroup: Method_Group.NOTRACE,
    outcome: Outcome_Name.SUCCESS,
    resource: `${Service_Name[service]} ${Method_Group[methodGroup]} ${limit.name} ${threshold.text}`,
  };
}
