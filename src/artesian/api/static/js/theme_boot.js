// Applies a stored theme before the first paint. Without one the system's preference holds.
try {
  const theme = localStorage.getItem("artesian.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage can be forbidden; the system's preference is a fine answer then.
}
