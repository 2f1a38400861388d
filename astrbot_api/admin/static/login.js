import { byId, call, roots, t } from "./dom.js";

const form = byId("login");
const button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fault = byId("fault");
  fault.hidden = true;
  button.disabled = true;
  try {
    await call(`${roots.admin}/../api/auth/login`, {
      method: "POST",
      body: { username: form.username.value, password: form.password.value },
    });
    location.href = `${roots.admin}/${form.dataset.next}${location.hash}`;
  } catch (error) {
    fault.textContent = error.code === "login_failed" ? t("The name or the password is wrong.") : error.message;
    fault.hidden = false;
    button.disabled = false;
    form.password.select();
  }
});
button.disabled = false;
