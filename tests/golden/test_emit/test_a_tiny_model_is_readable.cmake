cmake_minimum_required(VERSION 3.16)
project(tiny C)

add_library(tiny STATIC
    conv_s8.c
    maxpool_s8.c
    tiny.c
)
target_include_directories(tiny PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(tiny PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
