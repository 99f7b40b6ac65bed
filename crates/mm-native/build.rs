//! Looks for CMake ≥ 3.28, Ninja, and libclang, and says in a sentence what is missing.

#![expect(clippy::print_stderr, reason = "how a build script speaks")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const CMAKE: (u32, u32) = (3, 28);

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["CMAKE", "LIBCLANG_PATH", "LLVM_CONFIG_PATH", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let missing: Vec<String> = [cmake(), ninja(), libclang()].into_iter().flatten().collect();
    if missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nmm needs tools to compile the C++ engines LightGBM and XGBoost, and did not find: {}.\n\
         Install them with `pip install cmake ninja libclang` or your package manager and put them \
         on the PATH (libclang: its folder in LIBCLANG_PATH), or run `source scripts/setup` in the \
         repository, or build without the engines (`default-features = false`).\n",
        missing.join("; ")
    );
    ExitCode::FAILURE
}

fn cmake() -> Option<String> {
    let program = env::var("CMAKE").unwrap_or_else(|_| "cmake".to_owned());
    let Some(text) = output(&program, "--version") else {
        return Some(format!("CMake {}.{} or newer", CMAKE.0, CMAKE.1));
    };
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next()?, parts.next()?);
    (found < CMAKE).then(|| format!("CMake {}.{} or newer (found {version})", CMAKE.0, CMAKE.1))
}

fn ninja() -> Option<String> {
    let found = ["ninja", "ninja-build"].iter().any(|name| output(name, "--version").is_some());
    (!found).then(|| "Ninja".to_owned())
}

/// Looks where bindgen looks; elsewhere than on Linux it is left to bindgen.
fn libclang() -> Option<String> {
    if !cfg!(target_os = "linux") || env::var_os("LLVM_CONFIG_PATH").is_some() {
        return None;
    }
    let given = env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    if given.as_deref().is_some_and(|path| path.is_file() || holds_libclang(path)) {
        return None;
    }
    let mut folders: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/usr/local/llvm/lib"]
            .map(PathBuf::from)
            .into();
    for parent in ["/usr/lib", "/usr/local"] {
        let inside = fs::read_dir(parent).into_iter().flatten().flatten();
        for folder in inside.map(|entry| entry.path()) {
            folders.push(folder.join("lib"));
            folders.push(folder);
        }
    }
    if let Some(text) = output("llvm-config", "--libdir") {
        folders.push(PathBuf::from(text.trim()));
    }
    (!folders.iter().any(|folder| holds_libclang(folder))).then(|| "libclang".to_owned())
}

/// Whether the folder has `libclang.so…` or `libclang-<version>.so…`; `libclang-cpp` is another
/// library.
fn holds_libclang(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix("libclang");
        rest.is_some_and(|rest| {
            rest.starts_with(".so")
                || (rest.contains(".so")
                    && rest
                        .strip_prefix('-')
                        .is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())))
        })
    })
}

fn output(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
