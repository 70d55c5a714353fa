// Passkeys: forms with data-passkey ask the device, then send what it says. "log-in" fetches its options first.
"use strict";
(function () {
  const toBytes = (text) => {
    const base64 = text.replace(/-/g, "+").replace(/_/g, "/");
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  };
  const toText = (buffer) => {
    const bytes = Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join("");
    return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };
  const withBytes = (list) => (list || []).map((item) => ({ ...item, id: toBytes(item.id) }));

  async function make(options, alone) {
    const wanted = options.publicKey;
    const made = await navigator.credentials.create({
      publicKey: {
        ...wanted,
        challenge: toBytes(wanted.challenge),
        user: { ...wanted.user, id: toBytes(wanted.user.id) },
        excludeCredentials: withBytes(wanted.excludeCredentials),
        authenticatorSelection: {
          ...wanted.authenticatorSelection,
          residentKey: alone ? "required" : "discouraged",
          requireResidentKey: alone,
          userVerification: alone ? "required" : wanted.authenticatorSelection.userVerification,
        },
      },
    });
    return {
      id: made.id,
      rawId: toText(made.rawId),
      type: made.type,
      clientExtensionResults: made.getClientExtensionResults(),
      response: {
        clientDataJSON: toText(made.response.clientDataJSON),
        attestationObject: toText(made.response.attestationObject),
        transports: made.response.getTransports ? made.response.getTransports() : [],
      },
    };
  }

  async function get(options) {
    const wanted = options.publicKey;
    const got = await navigator.credentials.get({
      publicKey: {
        ...wanted,
        challenge: toBytes(wanted.challenge),
        allowCredentials: withBytes(wanted.allowCredentials),
      },
    });
    const handle = got.response.userHandle;
    return {
      id: got.id,
      rawId: toText(got.rawId),
      type: got.type,
      clientExtensionResults: got.getClientExtensionResults(),
      response: {
        clientDataJSON: toText(got.response.clientDataJSON),
        authenticatorData: toText(got.response.authenticatorData),
        signature: toText(got.response.signature),
        userHandle: handle ? toText(handle) : null,
      },
    };
  }

  async function fetched(form) {
    const answer = await fetch(form.action, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new TypeError("no options");
    return (await answer.json()).request_options;
  }

  async function credential(form) {
    if (form.dataset.passkey === "log-in") return get(await fetched(form));
    const told = JSON.parse(document.getElementById("passkey-options").textContent);
    if (form.dataset.passkey === "get") return get(told.request_options);
    const alone = form.querySelector("[name=passwordless]");
    return make(told.creation_options, Boolean(alone && alone.checked));
  }

  function say(form, error) {
    const place = form.querySelector("[data-passkey-problem]");
    const which = { InvalidStateError: "known", TypeError: "unreachable" }[error.name] || "cancelled";
    place.textContent = place.dataset[which];
    place.hidden = false;
  }

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const place = form.querySelector("[data-passkey-problem]");
    if (!window.PublicKeyCredential) {
      if (form.hidden) continue;
      place.textContent = place.dataset.missing;
      place.hidden = false;
    }
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      place.hidden = true;
      try {
        form.elements.credential.value = JSON.stringify(await credential(form));
        form.submit();
      } catch (error) {
        say(form, error);
      }
    });
  }
})();
