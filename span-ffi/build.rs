//! Names the shared library for the dynamic linker.

fn main() {
    // The ABI's version: programs linked with one find it under this name, and no other by accident.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libspan.so.0");
    println!("cargo::rerun-if-changed=build.rs");
}
