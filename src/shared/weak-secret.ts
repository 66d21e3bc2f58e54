/** The least length of a secret, and how many different characters it must have. */
const leastCharacters = 32;
const leastDifferent = 10;

/** What people write in a configuration and mean to replace; letters and digits alone, lower case. */
const placeholders = [
  "changeme",
  "changethis",
  "default",
  "dummy",
  "example",
  "insertyour",
  "mysecret",
  "notasecret",
  "password",
  "placeholder",
  "qwerty",
  "replaceme",
  "replacethis",
  "replacewith",
  "supersecret",
  "tobereplaced",
  "topsecret",
  "yourkey",
  "yoursecret",
  "yourtoken",
];

/**
 * The rule that a secret breaks, in words that do not repeat it; undefined for one that breaks none. A test for
 * mistakes, not for randomness: it knows short ones, few characters, a repeated text, a run such as abcdef, and
 * placeholders.
 */
export function findWeakness(secret: string): string | undefined {
  if (secret.length < leastCharacters) return `must have ${leastCharacters} characters or more`;
  if (new Set(secret).size < leastDifferent) return `must have ${leastDifferent} different characters or more`;
  if (isRepetition(secret)) return "must not repeat a shorter text";
  if (isRun(secret)) return "must not follow the order of the alphabet or of digits";
  const plain = secret.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  if (placeholders.some((text) => plain.includes(text)))
    return "must not be a placeholder, such as changeme or your-secret";
  return undefined;
}

/** Whether it is a text of at most half its length, over and over; the last time may be cut off. */
function isRepetition(secret: string): boolean {
  const lengths = Array.from({ length: Math.floor(secret.length / 2) }, (_none, index) => index + 1);
  return lengths.some((length) => secret.startsWith(secret.slice(length)) && secret.length >= 2 * length);
}

/** Whether most of its characters follow the one before them, up or down. */
function isRun(secret: string): boolean {
  let following = 0;
  for (let index = 1; index < secret.length; index += 1) {
    if (Math.abs(secret.charCodeAt(index) - secret.charCodeAt(index - 1)) <= 1) following += 1;
  }
  return following > secret.length / 2;
}
