import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { authorize, isAudited, isPublic } from "../../src/pipeline/authorization.ts";
import type { Principal } from "../../src/shared/principal.ts";
import { everyService } from "../support/services.ts";

const everything: Principal = {
  userId: 1,
  username: "all_roles",
  companyKey: "company",
  roles: [Role_Name.ADMIN, Role_Name.PARTNER, Role_Name.USER, Role_Name.BOT],
  timezone: 0,
};

function refusal(work: () => void): Code | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return ConnectError.from(error).code;
  }
}

test("an RPC that declares no rule refuses every caller, whatever the roles", () => {
  expect(isPublic(Health.method.check)).toBe(false);
  expect(refusal(() => authorize(Health.method.check, everything))).toBe(Code.PermissionDenied);
  expect(refusal(() => authorize(CompanyService.method.createCompany, everything))).toBeUndefined();
});

test("exactly the RPCs that change something are declared audited", async () => {
  const all = (await everyService()).flatMap(({ methods }) => methods);
  const audited = all.filter((method) => isAudited(method)).map(({ name }) => name);
  expect(audited.toSorted()).toEqual([
    "CreateCompany",
    "CreateUser",
    "DeleteCompany",
    "DeleteCompanyAlertThresholds",
    "DeleteQuotas",
    "DeleteUser",
    "DeleteUserAlertThresholds",
    "ForceReleaseLease",
    "PatchCompany",
    "PatchUser",
    "UpdateCompany",
    "UpdateCompanyAlertThresholds",
    "UpdatePassword",
    "UpdateQuotas",
    "UpdateUser",
    "UpdateUserAlertThresholds",
  ]);
});
