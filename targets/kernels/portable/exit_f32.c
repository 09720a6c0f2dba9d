#include "mcugraph_exit.h"

int mcu_exit_f32(const float *x, int32_t count, float least)
{
    int reached = 0;
    for (int32_t i = 0; i < count; i++) {
        reached |= (x[i] >= least) ? 1 : 0;
    }
    return reached;
}
