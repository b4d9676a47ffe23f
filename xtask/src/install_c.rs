//! What C programs need of Span, where they look for it.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cargo::cargo;
use crate::man;

/// The version of Span.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The library's name for the dynamic linker, the same as in the build script of `span-ffi`.
const SONAME: &str = "libspan.so.0";

/// What a static library written in Rust needs: `rustc --print native-static-libs`. Without `-lgcc_s`, which C compilers
/// add by themselves and of which there is no static one: a program that carries everything gets `-lgcc_eh` from them.
const SYSTEM: &str = "-lutil -lrt -lpthread -lm -ldl -lc";

/// `--prefix DIR [--libdir DIR] [--destdir DIR] [--profile NAME]`
pub(crate) fn install(args: &[&str]) -> Result<()> {
    let options = Options::parse(args)?;
    let built = build(&options.profile)?;
    let (include, lib) = (options.staged(&options.prefix.join("include")), options.staged(&options.libdir));
    let (pkgconfig, man3) = (lib.join("pkgconfig"), options.staged(&options.prefix.join("share/man/man3")));
    for directory in [&include, &pkgconfig, &man3] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    copy(&workspace().join("span-ffi/include/span.h"), &include.join("span.h"))?;
    copy(&built.join("libspan.a"), &lib.join("libspan.a"))?;
    let versioned = format!("libspan.so.{VERSION}");
    copy(&built.join("libspan.so"), &lib.join(&versioned))?;
    link(&versioned, &lib.join(SONAME))?;
    link(SONAME, &lib.join("libspan.so"))?;
    // Two names, because --static would still take a shared library that lies beside the static one.
    for (name, libs) in [
        ("span", format!("-L${{libdir}} -lspan\nLibs.private: {SYSTEM}")),
        ("span-static", format!("${{libdir}}/libspan.a {SYSTEM}")),
    ] {
        let file = pkgconfig.join(name).with_extension("pc");
        fs::write(&file, options.pkg_config(name, &libs))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    man::install(&man3)?;
    println!(
        "installed span.h, libspan.so, libspan.a, span.pc, span-static.pc and manual pages below {}",
        options.prefix.display()
    );
    Ok(())
}

struct Options {
    prefix: PathBuf,
    libdir: PathBuf,
    destdir: Option<PathBuf>,
    profile: String,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self> {
        let (mut prefix, mut libdir, mut destdir, mut profile) = (None, None, None, "release".to_owned());
        for pair in args.chunks(2) {
            let [name, value] = pair else { bail!("{} wants a value", pair[0]) };
            match *name {
                "--prefix" => prefix = Some(absolute(value)?),
                "--libdir" => libdir = Some(absolute(value)?),
                "--destdir" => destdir = Some(absolute(value)?),
                "--profile" => profile = (*value).to_owned(),
                _ => bail!("unknown option {name}"),
            }
        }
        let Some(prefix) = prefix else { bail!("say where to: --prefix /usr/local") };
        let libdir = libdir.unwrap_or_else(|| prefix.join("lib"));
        Ok(Options { prefix, libdir, destdir, profile })
    }

    /// Where a path is written to: packages are made below a directory that is not the root.
    fn staged(&self, path: &Path) -> PathBuf {
        match &self.destdir {
            Some(destdir) => destdir.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    fn pkg_config(&self, name: &str, libs: &str) -> String {
        let (prefix, libdir) = (self.prefix.display(), self.libdir.display());
        format!(
            "prefix={prefix}\nincludedir=${{prefix}}/include\nlibdir={libdir}\n\n\
             Name: {name}\nDescription: Span: WireGuard and encrypted meshes in user space\nVersion: {VERSION}\n\
             Cflags: -I${{includedir}}\nLibs: {libs}\n"
        )
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{path:?} is no path"))
}

/// Builds the library and returns the directory it is in.
fn build(profile: &str) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let target = std::path::absolute(target).context("CARGO_TARGET_DIR is no path")?;
    let status = cargo()
        .current_dir(workspace())
        .args(["build", "--quiet", "-p", "span-ffi", "--profile", profile, "--target-dir"])
        .arg(&target)
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("building libspan failed");
    }
    Ok(target.join(if profile == "dev" { "debug" } else { profile }))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // A library in use is replaced, not overwritten.
    let _ = fs::remove_file(to);
    fs::copy(from, to).with_context(|| format!("writing {}", to.display())).map(drop)
}

fn link(to: &str, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    symlink(to, at).with_context(|| format!("writing {}", at.display()))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
