/* Counts how often an emulated core enters each block of code and how often it leaves the block by
 * a jump, follows the stack pointer, and stops the core at a limit. Called by unicorn at the start
 * of every block; what a block contains is told once, by `describe`. */
#include <stddef.h>
#include <stdint.h>

enum { RUNNING, INSTRUCTION_LIMIT, STACK_OVERFLOW, TABLE_FULL };

struct block {
    uint32_t address, size;
    int32_t bucket;       /* which step was running at the start of the block */
    int32_t bucket_after; /* and which one is at its end */
    uint32_t instructions;
    int32_t deepest; /* lowest stack pointer in the block, relative to its start */
    int32_t change;  /* of the stack pointer by the whole block */
    int32_t tail;    /* where the change is unknown: the lowest, relative to the end */
    uint32_t is_unknown;
    uint32_t is_open; /* ends amid an IT, so that the next block may be skipped in part */
    uint64_t count, taken;
};

struct state {
    int32_t (*read_register)(void *core, int32_t id, void *value);
    int32_t (*stop)(void *core);
    void (*describe)(struct block *block);
    struct block *blocks;
    uint32_t *slots; /* 1 + index into blocks, by hash; 0 is free */
    struct block *previous;
    uint64_t executed, limit;
    uint32_t used, capacity, mask;
    uint32_t sp, lowest, stack_limit;
    int32_t bucket, sp_id, status;
    uint32_t is_doubtful; /* the last block followed an open one */
};

void on_block(void *core, uint64_t address, uint32_t size, void *data);

static struct block *find(struct state *s, uint32_t address, uint32_t size)
{
    uint32_t slot = ((address >> 1) * 2654435761u ^ (uint32_t)s->bucket * 40503u) & s->mask;
    struct block *block;
    for (; s->slots[slot] != 0u; slot = (slot + 1u) & s->mask) {
        block = &s->blocks[s->slots[slot] - 1u];
        if (block->address == address && block->size == size && block->bucket == s->bucket) {
            return block;
        }
    }
    if (s->used == s->capacity) {
        return NULL;
    }
    block = &s->blocks[s->used++];
    s->slots[slot] = s->used;
    block->address = address;
    block->size = size;
    block->bucket = s->bucket;
    s->describe(block);
    return block;
}

static void follow_stack(struct state *s, void *core, const struct block *block)
{
    const struct block *last = s->previous;
    const int is_unknown = last != NULL && last->is_unknown != 0u;
    if (is_unknown || s->is_doubtful != 0u) {
        (void)s->read_register(core, s->sp_id, &s->sp);
    }
    if (is_unknown && s->sp + (uint32_t)last->tail < s->lowest) {
        s->lowest = s->sp + (uint32_t)last->tail;
    }
    s->is_doubtful = last != NULL ? last->is_open : 0u;
    if (s->sp + (uint32_t)block->deepest < s->lowest) {
        s->lowest = s->sp + (uint32_t)block->deepest;
    }
    s->sp += (uint32_t)block->change;
}

void on_block(void *core, uint64_t address, uint32_t size, void *data)
{
    struct state *s = data;
    struct block *last = s->previous;
    struct block *block = find(s, (uint32_t)address, size);
    if (block == NULL) {
        s->status = TABLE_FULL;
        (void)s->stop(core);
        return;
    }
    if (last != NULL && last->address + last->size != block->address) {
        last->taken++;
    }
    block->count++;
    s->executed += block->instructions;
    s->bucket = block->bucket_after;
    follow_stack(s, core, block);
    s->previous = block;
    if (s->lowest < s->stack_limit) {
        s->status = STACK_OVERFLOW;
        (void)s->stop(core);
    } else if (s->executed > s->limit) {
        s->status = INSTRUCTION_LIMIT;
        (void)s->stop(core);
    }
}
