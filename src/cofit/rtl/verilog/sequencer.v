// Walks over blocks of row groups; within a block, over passes; within a pass, over the block's
// groups; within a group (one row per lane), over columns. One element per cycle.
module sequencer #(
    parameter BLOCK = 1,
    parameter ROW = 1,
    parameter COLUMN = 6,
    parameter GROUP = 1,
    parameter PASS = 6,
    parameter WEIGHT = 7,
    parameter OFFSET = 6
) (
    input clk,
    input reset,
    input start,
    input [COLUMN-1:0] last_column,
    input [GROUP-1:0] last_group,
    input [PASS-1:0] last_pass,
    output reg busy,
    output reg [COLUMN-1:0] column,
    output reg [ROW-1:0] row,
    output reg [PASS-1:0] pass,
    output reg [WEIGHT-1:0] weight,  // address of the element in the weight memories
    output reg [OFFSET-1:0] offset,  // the same, from the start of the block
    output first,
    output last
);
    reg [GROUP-1:0] group;
    reg [WEIGHT-1:0] base;
    wire row_ends = row == BLOCK - 1 || group == last_group;
    wire pass_ends = pass == last_pass;
    assign first = column == 0;
    assign last = column == last_column;

    always @(posedge clk)
        if (reset || start) begin
            busy <= start && !reset;
            column <= 0;
            row <= 0;
            group <= 0;
            pass <= 0;
            weight <= 0;
            base <= 0;
            offset <= 0;
        end else if (busy) begin
            column <= last ? 0 : column + 1'b1;
            weight <= weight + 1'b1;
            offset <= offset + 1'b1;
            if (last) begin
                row <= row_ends ? 0 : row + 1'b1;
                group <= group + 1'b1;
                if (row_ends) begin
                    offset <= 0;
                    pass <= pass_ends ? 0 : pass + 1'b1;
                    if (pass_ends) begin
                        base <= weight + 1'b1;
                        busy <= group != last_group;
                    end else begin
                        weight <= base;
                        group <= group - row;
                    end
                end
            end
        end
endmodule
