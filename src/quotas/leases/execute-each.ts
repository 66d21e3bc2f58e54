import type { Answer, Counters, OnAnswer } from "../counters/counters.ts";
import type { CounterRequest } from "../counters/engine.ts";

/** The answer to one request, or the error of the counters, or of the ledger, that it met. */
export type EachAnswer = Answer | { readonly kind: "failed"; readonly error: unknown };

/**
 * Executes independent requests in one round trip. Returns one answer for each, in order. A request whose counters cannot
 * be rebuilt now fails alone: the answers of the others stand.
 * @throws the error of the counters when they answer no request
 * @param onAnswer called once for each answered request, as soon as its answer is known
 */
export async function executeEach(
  counters: Counters,
  requests: readonly CounterRequest[],
  onAnswer: OnAnswer,
): Promise<EachAnswer[]> {
  const answered: Answer[] = [];
  try {
    const answers = await counters.execute(requests, (answer, index, sentMs) => {
      // Fail-open executes all requests again. Those that the shared counters have answered have taken effect there.
      if (answered[index] !== undefined) return;
      answered[index] = answer;
      onAnswer(answer, index, sentMs);
    });
    return answers.map((answer, index) => answered[index] ?? answer);
  } catch (error) {
    if (answered.length === 0) throw error;
    return requests.map((_request, index) => answered[index] ?? { kind: "failed", error });
  }
}
