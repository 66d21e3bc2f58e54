import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { Role_Name } from "#gen/tollgate/v1/access_pb.js";
import { CompanyService } from "#gen/tollgate/v1/company_pb.js";
import { QuotaAdminService } from "#gen/tollgate/v1/quota_pb.js";
import { SystemService } from "#gen/tollgate/v1/system_pb.js";
import { AuthService } from "#gen/tollgate/v1/token_pb.js";
import { UserService } from "#gen/tollgate/v1/user_pb.js";
import type { Principal } from "../../src/core/principal.ts";
import { authorise, isAudited, isPublic } from "../../src/server/access.ts";

const everything: Principal = {
  userId: 1,
  username: "all_roles",
  companyKey: "company",
  roles: [Role_Name.ADMIN, Role_Name.PARTNER, Role_Name.USER, Role_Name.SERVICE],
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

test("an RPC that declares nothing is refused to everybody, whatever the roles", () => {
  expect(isPublic(Health.method.check)).toBe(false);
  expect(refusal(() => authorise(Health.method.check, everything))).toBe(Code.PermissionDenied);
  expect(refusal(() => authorise(CompanyService.method.createCompany, everything))).toBeUndefined();
});

test("every RPC that changes something is declared audited, and no other", () => {
  const all = [AuthService, CompanyService, UserService, QuotaAdminService, SystemService].flatMap(
    ({ methods }) => methods,
  );
  const audited = all.filter((method) => isAudited(method)).map(({ name }) => name);
  expect(audited).toEqual([
    "UpdatePassword",
    "CreateCompany",
    "UpdateCompany",
    "DeleteCompany",
    "CreateUser",
    "UpdateUser",
    "DeleteUser",
    "UpdateQuotas",
    "DeleteQuotas",
  ]);
});
