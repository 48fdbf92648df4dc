// Switches between the light and the dark theme. The page follows the system until the reader chooses a theme.
{
  const root = document.documentElement;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (systemIsDark.matches ? "dark" : "light")) === "dark";
  const announce = () => document.dispatchEvent(new CustomEvent("themechange"));
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("audiozen-theme", root.dataset.theme); } catch { /* a page from a file may have no storage */ }
    announce();
  });
  systemIsDark.addEventListener("change", announce);
}
