import { defineConfig } from "vite";

/** The built page is shipped in the Python package; names carry no hashes, so that a rebuild is a readable change. */
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/diffae/studio/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      output: { entryFileNames: "studio.js", chunkFileNames: "[name].js", assetFileNames: "studio[extname]" },
    },
  },
});
