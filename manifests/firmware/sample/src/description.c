/* esp_app_desc: what the boot loader, esptool and Podium read of an image. 256 bytes at its very beginning. */
#include <stdint.h>

struct app_description {
    uint32_t magic;
    uint32_t secure_version;
    uint32_t reserved1[2];
    char version[32];
    char project_name[32];
    char time[16];
    char date[16];
    char idf_version[32];
    uint8_t elf_sha256[32];
    uint16_t min_efuse_block_revision, max_efuse_block_revision;
    uint8_t mmu_page_size;
    uint8_t reserved3[3];
    uint32_t reserved2[18];
};

_Static_assert(sizeof(struct app_description) == 256, "the layout is fixed");

#define FIRST_31(text) {text[0], text[1], text[2], text[3], text[4], text[5], text[6], text[7], text[8], text[9], \
    text[10], text[11], text[12], text[13], text[14], text[15], text[16], text[17], text[18], text[19], text[20], \
    text[21], text[22], text[23], text[24], text[25], text[26], text[27], text[28], text[29], text[30], 0}

#define PADDED BUILD_COMMIT "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

__attribute__((section(".flash.appdesc"), used)) const struct app_description esp_app_desc = {
    .magic = 0xABCD5432u,
    .version = FIRST_31(PADDED),
    .project_name = "podium-sample",
    .idf_version = "none",
    .mmu_page_size = 16,
};
