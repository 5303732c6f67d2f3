//! Builds the spawner as an executable of its own, to be embedded in the library.
//!
//! Trials must never be forked from the big Python process, and a shared library cannot be executed,
//! so the helper is a separate binary. Building it here keeps the wheel to one step for any PEP 517
//! front end. It is linked statically where the C library allows (a static image has fewer mappings,
//! so each of its forks is cheaper), dynamically otherwise.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=spawner/src");
    println!("cargo::rerun-if-changed=spawner/Cargo.toml");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let target_dir = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("spawner");
    let target = env::var("TARGET").expect("set by cargo");
    let manifest = manifest_dir.join("spawner/Cargo.toml");
    let static_flags = "-Ctarget-feature=+crt-static -Crelocation-model=static";
    let binary = build(&manifest, &target_dir, &target, static_flags)
        .or_else(|| build(&manifest, &target_dir, &target, ""))
        .unwrap_or_else(|| panic!("could not build the spawner from {}", manifest.display()));
    println!("cargo::rustc-env=NIGHTFLEET_SPAWNER={}", binary.display());
}

fn build(manifest: &Path, target_dir: &Path, target: &str, rustflags: &str) -> Option<PathBuf> {
    let cargo = env::var_os("CARGO").expect("set by cargo");
    let status = Command::new(cargo)
        .args(["build", "--release", "--bin", "nightfleet-spawner", "--target", target])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target_dir)
        // The outer build's wrappers and flags (clippy's driver, the jobserver) are not for this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_MAKEFLAGS")
        .env("RUSTFLAGS", rustflags)
        .status()
        .ok()?;
    let binary = target_dir.join(target).join("release/nightfleet-spawner");
    (status.success() && binary.exists()).then_some(binary)
}
