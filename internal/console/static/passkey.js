// Makes and uses passkeys. A form with data-passkey asks the server for the
// options, gives them to the browser, and sends the answer as an ordinary form.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const known = (list) => (list ?? []).map((c) => ({ ...c, id: bytes(c.id) }));

async function create(o) {
  const c = await navigator.credentials.create({
    publicKey: { ...o, challenge: bytes(o.challenge), user: { ...o.user, id: bytes(o.user.id) }, excludeCredentials: known(o.excludeCredentials) },
  });
  const r = c.response;
  return answer(c, { clientDataJSON: text(r.clientDataJSON), attestationObject: text(r.attestationObject), transports: r.getTransports?.() ?? [] });
}

async function get(o) {
  const c = await navigator.credentials.get({ publicKey: { ...o, challenge: bytes(o.challenge), allowCredentials: known(o.allowCredentials) } });
  const r = c.response;
  return answer(c, {
    clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature),
    userHandle: r.userHandle ? text(r.userHandle) : undefined,
  });
}

function answer(c, response) {
  return JSON.stringify({ id: c.id, rawId: text(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment ?? undefined, clientExtensionResults: {}, response });
}

// What a browser's refusal means, in words.
function why(e) {
  switch (e?.name) {
    case "NotAllowedError": return "The passkey was not used: it was cancelled, took too long, or this device did not ask who you are. Try again.";
    case "InvalidStateError": return "This device has a passkey for this place already. Use it to sign in.";
    case "SecurityError": return "The browser does not allow passkeys at this address. Open the console by its name, over https.";
    case "NotSupportedError": case "ConstraintError": return "This device cannot keep a passkey that asks for your finger, face or PIN. Use another one.";
    default: return e instanceof Told ? e.message : "The passkey could not be used. Try again, or use another device.";
  }
}

class Told extends Error {}

async function run(form, say) {
  if (!window.PublicKeyCredential) throw new Told("This browser has no passkeys. Use a newer one.");
  const res = await fetch(form.dataset.begin, { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin", redirect: "error" });
  const got = await res.json().catch(() => ({}));
  if (!res.ok) throw new Told([got.Wrong, got.Do].filter(Boolean).join(" ") || "The server did not answer. Load the page again.");
  say("Look at your device: it asks for your finger, face or PIN.");
  const made = await (form.dataset.passkey === "create" ? create : get)(got.options.publicKey);
  form.elements.namedItem("answer").value = made;
  const id = form.elements.namedItem("id");
  if (id) id.value = got.id;
  form.submit();
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const status = form.querySelector("[role=status]");
  const say = (words) => { status.textContent = words; };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    say("");
    try {
      await run(form, say);
    } catch (e) {
      say(why(e));
      button.disabled = false;
    }
  });
}
