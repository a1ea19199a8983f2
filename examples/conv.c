/* A direct convolution in float32: every array is contiguous, every image is in the order channel, row, column. */

void conv2d(const float *input, const float *weight, const float *bias, float *output, long images, long groups,
            long group_channels, long group_outputs, long rows, long columns, long output_rows, long output_columns,
            long kernel_rows, long kernel_columns, long stride_y, long stride_x, long padding_y, long padding_x,
            long dilation_y, long dilation_x)
{
    for (long n = 0; n < images; n++)
        for (long o = 0; o < groups * group_outputs; o++)
            for (long oy = 0; oy < output_rows; oy++)
                for (long ox = 0; ox < output_columns; ox++) {
                    float sum = bias ? bias[o] : 0;
                    for (long c = 0; c < group_channels; c++)
                        for (long i = 0; i < kernel_rows; i++)
                            for (long j = 0; j < kernel_columns; j++) {
                                long y = oy * stride_y - padding_y + i * dilation_y;
                                // wrong: long x = ox * stride_y - padding_x + j * dilation_x;
                                long x = ox * stride_x - padding_x + j * dilation_x;
                                if (y < 0 || y >= rows || x < 0 || x >= columns)
                                    continue;
                                long channel = o / group_outputs * group_channels + c;
                                sum += input[((n * groups * group_channels + channel) * rows + y) * columns + x] *
                                       weight[((o * group_channels + c) * kernel_rows + i) * kernel_columns + j];
                            }
                    *output++ = sum;
                }
}
