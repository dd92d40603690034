// What this machine can do at best, with every thread busy: the yardstick of the benchmarks.
//
// usage: limits THREADS BYTES...   prints one JSON object
//   read_gbps   for each BYTES: reading that much, split over the threads, again and again
//   fp32, int8, bf16   billions of multiply-adds a second from registers, no memory involved
//
// Each figure is the best of several short runs, so that a busy machine does not lower it.

#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NUM_RUNS 15
#define NUM_STEPS 400000
#define ACCUMULATORS 10
#define MAX_THREADS 256

#ifdef __AVX512F__
#define WIDTH 64
#else
#define WIDTH 32
#endif
typedef float floats __attribute__((vector_size(WIDTH)));
typedef int64_t words __attribute__((vector_size(WIDTH)));

typedef struct {
    double (*work)(void *argument); // multiply-adds or bytes done
    void *argument;
    pthread_barrier_t *barrier;
    double done, start, end;
} job;

typedef struct {
    const char *data;
    size_t num_bytes;
} span;

static volatile int64_t sink;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static double read_span(void *argument) {
    const span *s = argument;
    words sums[4] = {0};
    for (size_t i = 0; i + 4 * WIDTH <= s->num_bytes; i += 4 * WIDTH)
        for (int j = 0; j < 4; j++)
            sums[j] ^= *(const words *)(s->data + i + j * WIDTH);
    sink = sums[0][0] ^ sums[1][0] ^ sums[2][0] ^ sums[3][0];
    return s->num_bytes;
}

// Accumulators are named one by one, since compilers keep an array of them in memory.
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9)
#define DECLARE(i) vector s##i = {0};
#define OPAQUE(v) __asm__ volatile("" : "+x"(v));
#define MULTIPLY_ADD(i)                                                                           \
    s##i = s##i * x + y;                                                                          \
    OPAQUE(s##i)

static double fp32(void *unused) {
    (void)unused;
    typedef floats vector;
    vector x = {0}, y = {0};
    EACH(DECLARE)
    OPAQUE(x) OPAQUE(y)
    for (int step = 0; step < NUM_STEPS; step++) {
        EACH(MULTIPLY_ADD)
    }
    return (double)NUM_STEPS * ACCUMULATORS * (WIDTH / 4);
}

#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
// Inline assembly: the intrinsics of some compilers lose the tile configuration.
static void configure_tiles(void) {
    uint8_t config[64] __attribute__((aligned(64))) = {1};
    syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */);
    for (int tile = 0; tile < 8; tile++) {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}
#define TILE_LOOP(OP)                                                                             \
    configure_tiles();                                                                            \
    for (int step = 0; step < NUM_STEPS / 4; step++)                                              \
        __asm__ volatile(OP " %%tmm6, %%tmm4, %%tmm0\n" OP " %%tmm7, %%tmm4, %%tmm1\n"           \
                         OP " %%tmm6, %%tmm5, %%tmm2\n" OP " %%tmm7, %%tmm5, %%tmm3\n" ::);       \
    __asm__ volatile("tilerelease")

static const char *int8_name = "AMX";
static double int8(void *unused) {
    (void)unused;
    TILE_LOOP("tdpbssd");
    return (double)NUM_STEPS * 16 * 16 * 64;
}
static const char *bf16_name = "AMX";
static double bf16(void *unused) {
    (void)unused;
    TILE_LOOP("tdpbf16ps");
    return (double)NUM_STEPS * 16 * 16 * 32;
}
#else
#if defined(__AVX512VNNI__) && WIDTH == 64
#define DOT(sum) sum = (words)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
#elif defined(__AVXVNNI__) && WIDTH == 32
#define DOT(sum) sum = (words)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)y);
#elif WIDTH == 32
#define DOT(sum)                                                                                  \
    {                                                                                             \
        __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)y);                             \
        OPAQUE(pairs)                                                                             \
        sum = (words)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16(pairs, (__m256i)y));        \
    }
#else
#define DOT(sum)                                                                                  \
    {                                                                                             \
        __m512i pairs = _mm512_maddubs_epi16((__m512i)x, (__m512i)y);                             \
        OPAQUE(pairs)                                                                             \
        sum = (words)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16(pairs, (__m512i)y));        \
    }
#endif
#define DOT_STEP(i)                                                                               \
    DOT(s##i)                                                                                     \
    OPAQUE(s##i)

static double int8(void *unused) {
    (void)unused;
    typedef words vector;
    vector x = {0}, y = {0};
    EACH(DECLARE)
    OPAQUE(x) OPAQUE(y)
    for (int step = 0; step < NUM_STEPS; step++) {
        EACH(DOT_STEP)
    }
    return (double)NUM_STEPS * ACCUMULATORS * WIDTH;
}
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
static const char *int8_name = "VNNI";
#else
static const char *int8_name = "AVX2";
#endif
static const char *bf16_name = "none";
static double bf16(void *unused) {
    (void)unused;
    return 0;
}
#endif

static void *run_job(void *argument) {
    job *j = argument;
    pthread_barrier_wait(j->barrier);
    j->start = seconds();
    j->done = j->work(j->argument);
    j->end = seconds();
    return NULL;
}

// Billions a second over all threads, best of NUM_RUNS.
static double rate(int num_threads, double (*work)(void *), void *arguments, size_t stride) {
    double best = 0;
    for (int run = 0; run < NUM_RUNS; run++) {
        pthread_t threads[MAX_THREADS];
        job jobs[MAX_THREADS];
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, num_threads);
        for (int t = 0; t < num_threads; t++) {
            jobs[t] = (job){work, (char *)arguments + t * stride, &barrier, 0, 0, 0};
            pthread_create(&threads[t], NULL, run_job, &jobs[t]);
        }
        double first = 0, last = 0, done = 0;
        for (int t = 0; t < num_threads; t++) {
            pthread_join(threads[t], NULL);
            done += jobs[t].done;
            first = t == 0 || jobs[t].start < first ? jobs[t].start : first;
            last = jobs[t].end > last ? jobs[t].end : last;
        }
        pthread_barrier_destroy(&barrier);
        if (done / (last - first) > best)
            best = done / (last - first);
    }
    return best * 1e-9;
}

static double read_gbps(int num_threads, size_t num_bytes) {
    span spans[MAX_THREADS];
    size_t share = num_bytes / num_threads / (4 * WIDTH) * (4 * WIDTH);
    char *data = aligned_alloc(4096, (share * num_threads + 4095) / 4096 * 4096);
    if (data == NULL)
        return 0;
    memset(data, 1, share * num_threads);
    for (int t = 0; t < num_threads; t++)
        spans[t] = (span){data + t * share, share};
    double best = rate(num_threads, read_span, spans, sizeof *spans);
    free(data);
    return best;
}

int main(int argc, char **argv) {
    int num_threads = argc > 1 ? atoi(argv[1]) : 0;
    if (num_threads < 1 || num_threads > MAX_THREADS) {
        fprintf(stderr, "usage: limits THREADS BYTES...; THREADS is 1 to %d\n", MAX_THREADS);
        return 2;
    }
    printf("{\"read_gbps\": {");
    for (int i = 2; i < argc; i++)
        printf("%s\"%s\": %.2f", i > 2 ? ", " : "", argv[i],
               read_gbps(num_threads, strtoull(argv[i], NULL, 10)));
    printf("}, \"fp32_gmacs\": %.1f", rate(num_threads, fp32, NULL, 0));
    printf(", \"int8_gmacs\": %.1f, \"int8_unit\": \"%s\"", rate(num_threads, int8, NULL, 0),
           int8_name);
    printf(", \"bf16_gmacs\": %.1f, \"bf16_unit\": \"%s\"}\n", rate(num_threads, bf16, NULL, 0),
           bf16_name);
    return 0;
}
