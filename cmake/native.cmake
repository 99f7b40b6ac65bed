# How the bundled C++ engines are compiled; named by CMAKE_TOOLCHAIN_FILE in .cargo/config.toml.
#
# It sets options of the engines' own CMake files that their crates give no switch for:
# XGBoost as a static library, so that a program which links it runs wherever it is copied,
# and its release flags without debug information, which would make each program 100 MB larger.
set(BUILD_STATIC_LIB ON CACHE BOOL "" FORCE)
set(CMAKE_POSITION_INDEPENDENT_CODE ON CACHE BOOL "" FORCE)
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG" CACHE STRING "" FORCE)
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG" CACHE STRING "" FORCE)
